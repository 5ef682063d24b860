"""Keeping the files of an archive that is the right one."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import swagger_ui


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    file = tmp_path / "dist.tgz"
    with tarfile.open(file, "w:gz") as tar:
        for name in (*swagger_ui.FILES, "swagger-ui.js.map"):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return file


def integrity_of(archive: Path) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()


def test_the_files_that_are_served_are_written_once(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "swagger"
    target.mkdir()
    assert swagger_ui.unpack(archive, integrity_of(archive), target) == list(swagger_ui.FILES)
    assert {file.name for file in target.iterdir()} == set(swagger_ui.FILES)
    assert swagger_ui.unpack(archive, integrity_of(archive), target) == []


def test_another_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dist\.tgz is sha512-"):
        swagger_ui.unpack(archive, "sha512-other", tmp_path)
