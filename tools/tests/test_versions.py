"""One version, in every place that says it."""

import subprocess
from pathlib import Path

import pytest
import versions

FILES = {
    "pyproject.toml": '[project]\nversion = "1.2.3"\n',
    "services/a/pyproject.toml": 'version = "1.2.3"\ndependencies = ["b==1.2.3"]\n',
    "services/a/Dockerfile": "ARG BASE=python:3.13\nARG VERSION=1.2.3\n",
    "deploy/helm/a/Chart.yaml": 'version: 1.2.3\nappVersion: "1.2.3"\ndependencies:\n  - name: b\n    version: 1.2.3\n',
    "docker-compose.yml": "image: x/a:${TRAINYARD_TAG:-1.2.3}\n",
    "other.yml": "version: 9.9.9\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_places_agree_until_one_does_not(repository: Path) -> None:
    assert versions.main([], repository) == 0
    assert versions.main(["--is", "v1.2.3"], repository) == 0
    assert versions.main(["--is", "v1.2.4"], repository) == 1
    (repository / "services/a/Dockerfile").write_text("ARG VERSION=1.2.4\n")
    assert versions.main([], repository) == 1


def test_a_version_is_written_everywhere_and_nowhere_else(repository: Path) -> None:
    assert versions.main(["2.0.0-rc.1"], repository) == 0
    for name, text in FILES.items():
        expected = text if name == "other.yml" else text.replace("1.2.3", "2.0.0-rc.1")
        # What another package is pinned to is no version of ours.
        assert (repository / name).read_text() == expected.replace("b==2.0.0-rc.1", "b==1.2.3")


@pytest.mark.parametrize("version", ["1.2", "v1.2.x", "latest", "1.2.3; true"])
def test_what_is_no_version_is_not_written(repository: Path, version: str) -> None:
    assert versions.main([version], repository) == 1
    assert (repository / "pyproject.toml").read_text() == FILES["pyproject.toml"]


def test_this_repository_says_one_version() -> None:
    assert versions.main([]) == 0
    files = {place.file for place in versions.places(versions.ROOT)}
    assert {
        "pyproject.toml",
        "services/gateway/pyproject.toml",
        "services/gateway/src/gateway/api/document.py",
    } <= files
