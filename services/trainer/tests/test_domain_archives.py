"""Archives of bundles: what is taken, what is refused and why, and what it costs."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles_at_work import archive_of

from trainer.domain import archives
from trainer.domain.archives import Contents
from trainer.domain.bundles import BundleInvalid


def tar_of(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
            else:
                tar.addfile(member)
    return packed.getvalue()


def special(kind: bytes, name: str = "x", target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_of(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return packed.getvalue()


def with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def look(archive: bytes) -> Contents:
    return archives.look(io.BytesIO(archive))


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_files_are_unpacked_as_they_are_and_folders_where_they_need_them(
    tmp_path: Path, make: Callable[..., bytes]
) -> None:
    archive = make(("./train.py", b"print(1)"), ("lib/deep/own.py", b""), ("data.bin", bytes(700_000)))
    found = archives.unpack(io.BytesIO(archive), tmp_path)
    assert found == Contents(("train.py", "lib/deep/own.py", "data.bin"), 700_008) == look(archive)
    assert (tmp_path / "train.py").read_bytes() == b"print(1)"
    assert (tmp_path / "data.bin").stat().st_size == 700_000
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data.bin", "deep", "lib", "own.py", "train.py"]
    assert stat.S_IMODE((tmp_path / "train.py").stat().st_mode) == 0o444


def test_what_is_executable_stays_so(tmp_path: Path) -> None:
    info = tarfile.TarInfo("run.sh")
    info.mode = 0o4777
    archives.unpack(io.BytesIO(tar_of(info)), tmp_path)
    assert stat.S_IMODE((tmp_path / "run.sh").stat().st_mode) == 0o555
    other = tmp_path / "zip"
    other.mkdir()
    archives.unpack(io.BytesIO(zip_of((with_mode("run.sh", stat.S_IFREG | 0o755), b""))), other)
    assert os.access(other / "run.sh", os.X_OK)


def test_folders_of_an_archive_say_nothing() -> None:
    assert look(tar_of(special(tarfile.DIRTYPE, "./"), special(tarfile.DIRTYPE, "a"), ("a/b", b""))).files == ("a/b",)
    assert look(zip_of(("a/", b""), ("a/b", b""))).files == ("a/b",)


PATHS = {
    "absolute": "/etc/passwd",
    "above": "../x",
    "above within": "a/../../x",
    "here": "a/./b",
    "nothing between": "a//b",
    "a drive": "C:x",
    "another kind of slash": "a\\b",
    "control characters": "a\nb",
    "an override of direction": "a\u202eb",
    "a long part": "x" * 256,
    "a long path": "/".join(["x" * 200] * 6),
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_paths_that_lead_elsewhere_are_refused(make: Callable[..., bytes], path: str) -> None:
    with pytest.raises(BundleInvalid):
        look(make((path, b"")))


def test_a_path_that_is_no_text_is_refused() -> None:
    with pytest.raises(BundleInvalid, match="UTF-8"):
        look(tar_of(("a\udcff", b"")))


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_folders_that_lead_elsewhere_are_refused_too(make: Callable[..., bytes]) -> None:
    folder = special(tarfile.DIRTYPE, "../x") if make is tar_of else ("../x/", b"")
    with pytest.raises(BundleInvalid, match="must have no"):
        look(make(folder, ("a", b"")))


TWICE = [("a", "a"), ("a", "A"), ("a/x", "A/y"), ("a", "a/b"), ("a/b", "a"), ("a/b", "A"), ("\xe9", "e\u0301")]


@pytest.mark.parametrize(("first", "second"), TWICE)
def test_one_path_on_some_disk_is_there_once(first: str, second: str) -> None:
    with pytest.raises(BundleInvalid, match="one path"):
        look(tar_of((first, b""), (second, b"")))


KINDS = {
    "a link": special(tarfile.SYMTYPE, target="/etc/passwd"),
    "another name": special(tarfile.LNKTYPE, target="y"),
    "a device": special(tarfile.CHRTYPE),
    "a disk": special(tarfile.BLKTYPE),
    "a pipe": special(tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("member", KINDS.values(), ids=KINDS)
def test_what_is_no_plain_file_is_refused(member: tarfile.TarInfo) -> None:
    with pytest.raises(BundleInvalid, match="no plain file"):
        look(tar_of(member))


def test_a_link_in_a_zip_is_refused() -> None:
    with pytest.raises(BundleInvalid, match="no plain file"):
        look(zip_of((with_mode("x", stat.S_IFLNK | 0o777), b"/etc/passwd")))


def test_a_zip_with_a_password_is_refused() -> None:
    archive = bytearray(zip_of(("a", b"x")))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.find(signature) + offset] |= 1
    with pytest.raises(BundleInvalid, match="password"):
        look(bytes(archive))


BROKEN = {
    "nothing": b"",
    "text": b"hello",
    "no tar": gzip.compress(b"hello" * 200),
    "an empty tar": tar_of(),
    "an empty zip": zip_of(),
    "half a tar": archive_of({"a": os.urandom(5000)})[:2000],
    "a tar whose sum is wrong": archive_of({"a": os.urandom(5000)})[:-8] + b"12345678",
    "half a zip": zip_of(("a", os.urandom(5000)))[:2000],
    "half the end of a zip": zip_of(("a", b""))[:-4],
    "a zip that is large": b"PK" + bytes(20) + b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + bytes(18),
    "a zip with a long directory": b"PKPK\x05\x06" + bytes(8) + (5 << 20).to_bytes(4, "little") + bytes(6),
}


@pytest.mark.parametrize("archive", BROKEN.values(), ids=BROKEN)
def test_what_is_no_whole_archive_is_refused(archive: bytes) -> None:
    with pytest.raises(BundleInvalid):
        look(archive)


def test_a_zip_whose_bytes_are_others_is_refused() -> None:
    archive = bytearray(zip_of((zipfile.ZipInfo("a"), b"hello")))  # not packed
    archive[archive.find(b"hello")] ^= 1
    with pytest.raises(BundleInvalid, match="no whole archive"):
        look(bytes(archive))


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_bomb_is_put_down_before_it_is_large(make: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE", 1 << 20)
    bomb = make(("zeros", bytes(4 << 20)))
    assert len(bomb) < 10_000
    with pytest.raises(BundleInvalid, match="unpacks to more"):
        look(bomb)


def test_a_header_that_is_a_bomb_is_put_down_unread() -> None:
    name = special(tarfile.GNUTYPE_LONGNAME, "././@LongLink")
    name.size = 4 << 20
    packed = gzip.compress(name.tobuf(tarfile.GNU_FORMAT) + b"x" * (4 << 20) + bytes(1024))
    with pytest.raises(BundleInvalid, match="header"):
        look(packed)


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_there_are_not_more_files_than_may_be(make: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    assert len(look(make(*((str(n), b"") for n in range(3)))).files) == 3
    with pytest.raises(BundleInvalid, match="3 files at most"):
        look(make(*((str(n), b"") for n in range(4))))


def test_there_are_not_more_folders_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    with pytest.raises(BundleInvalid, match="3 files at most"):
        look(tar_of(*(special(tarfile.DIRTYPE, str(n)) for n in range(8))))


def test_a_file_is_as_long_as_the_archive_says() -> None:
    archive = bytearray(zip_of((zipfile.ZipInfo("a"), b"hello")))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # unpacked, it would have four bytes
        archive[archive.find(signature) + offset] = 4
    with pytest.raises(BundleInvalid):
        look(bytes(archive))


def test_a_tar_is_read_forward_only() -> None:
    packed = gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(bytes(1000))), mode="rb")
    unpacked = archives._Unpacked(packed, archives._Budget(1 << 20))
    assert unpacked.seek(500) == unpacked.tell() == 500
    with pytest.raises(BundleInvalid, match="leads back"):
        unpacked.seek(100)


@pytest.mark.parametrize("size", [2, 4])
def test_a_member_has_the_bytes_that_it_says(size: int) -> None:
    with pytest.raises(BundleInvalid, match="not as long"):
        archives._copy(archives.Member("a", False, size, io.BytesIO(b"abc")), None, None)
