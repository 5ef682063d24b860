"""What was released is not written over by accident."""

import json
import shutil
from pathlib import Path

import pytest

import contracts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(contracts.FOLDER, tmp_path / "contracts")
    return tmp_path / "contracts"


def promise(folder: Path) -> Path:
    """A route that no service has any more, as if it had been released."""
    file = folder / "registry.openapi.json"
    document = json.loads(file.read_text())
    document["paths"]["/v1/lamps"] = {"get": {"responses": {"200": {}}}}
    file.write_text(json.dumps(document))
    return file


def test_a_broken_promise_is_told_and_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = promise(folder).read_text()
    (folder / "gateway.openapi.json").write_text('{"paths": {}}')
    assert contracts.main([], folder) == 1
    assert "registry: GET /v1/lamps: is gone\n" in capsys.readouterr().err
    assert (folder / "registry.openapi.json").read_text() == before
    assert (folder / "gateway.openapi.json").read_text() == '{"paths": {}}'


def test_who_means_to_break_it_says_so(folder: Path) -> None:
    file = promise(folder)
    assert contracts.main(["--break"], folder) == 0
    assert "/v1/lamps" not in file.read_text()


def test_a_first_release_breaks_nothing(tmp_path: Path) -> None:
    assert contracts.main([], tmp_path / "new") == 0
    assert len(list((tmp_path / "new").glob("*.json"))) == len(contracts.SERVICES)
