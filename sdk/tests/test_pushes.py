"""Models that were made elsewhere, as the client and the command line send them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import things
from fake_suite import Answer, FakeSuite, Lost, problem
from test_onnx_files import SOUND
from typer.testing import Result

from trainyard.client import Client
from trainyard.errors import Invalid, TooMany
from trainyard.resources.pushes import NotAModel

DIGEST = "sha256:" + hashlib.sha256(SOUND).hexdigest()
BLOB, VERSIONS = f"/v1/models/digits/blobs/{DIGEST}", "/v1/models/digits/versions"
SIGNATURE = {
    "task": "tensors",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
    "classes": [],
}
MADE = things.model_version() | {
    "model": "digits",
    "formats": [{"format": "onnx", "path": "m.onnx", "digest": DIGEST, "size": len(SOUND), "origin": "user"}],
    "signature": SIGNATURE,
    "lineage": {"source": "notebook 7", "by": "ada"},
    "twin": None,
}
Call = Callable[..., Result]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(SOUND)
    return path


@pytest.fixture
def registry(suite: FakeSuite) -> FakeSuite:
    suite.on("PUT", BLOB, Answer(201, {"digest": DIGEST, "size": len(SOUND)}))
    suite.on("POST", VERSIONS, Answer(201, MADE))
    return suite


def test_a_file_is_sent_and_a_version_made_of_it(registry: FakeSuite, client: Client, file: Path) -> None:
    told: list[tuple[str, int]] = []
    version = client.models.push(
        "digits",
        file,
        metrics={"accuracy": 0.97},
        parameters={"epochs": 3},
        example=[[1, 2, 3, 4], {"x": [5, 6, 7, 8]}],
        source="notebook 7",
        sent=lambda name, size: told.append((name, size)),
    )
    assert (version.reference, version.lineage["by"]) == ("digits@1", "ada")
    [sent] = registry.of("PUT", BLOB)
    assert (sent.body, sent.headers["content-length"]) == (SOUND, str(len(SOUND)))
    [made] = registry.of("POST", VERSIONS)
    assert made.headers["idempotency-key"]
    assert made.json == {
        "formats": [{"format": "onnx", "path": "m.onnx", "digest": DIGEST, "size": len(SOUND)}],
        "signature": SIGNATURE,
        "metrics": {"accuracy": 0.97},
        "parameters": {"epochs": 3},
        "input_example": [{"x": [1, 2, 3, 4]}, {"x": [5, 6, 7, 8]}],
        "lineage": {"source": "notebook 7"},
    }
    assert told == [("m.onnx", len(SOUND))]


def test_what_is_there_is_not_sent_again(registry: FakeSuite, client: Client, file: Path) -> None:
    registry.on("GET", BLOB, Answer(200, {"digest": DIGEST, "size": len(SOUND)}))
    told: list[int] = []
    client.models.push("digits", [file], sent=lambda name, size: told.append(size))
    assert (registry.of("PUT", BLOB), told) == ([], [len(SOUND)])


def test_what_was_collected_meanwhile_is_sent_after_all(registry: FakeSuite, client: Client, file: Path) -> None:
    registry.on("GET", BLOB, Answer(200, {"digest": DIGEST, "size": len(SOUND)}))
    gone = problem(422, "There are no bytes of m.onnx.", code="file-not-uploaded")
    registry.on("POST", VERSIONS, gone, Answer(201, MADE))
    assert client.models.push("digits", file).version == 1
    assert len(registry.of("PUT", BLOB)) == 1
    registry.on("POST", VERSIONS, problem(422, "It is none.", code="format-mismatch"))
    with pytest.raises(Invalid, match="It is none"):
        client.models.push("digits", file)


def test_a_lost_connection_sends_the_file_again_from_its_beginning(
    registry: FakeSuite, client: Client, file: Path
) -> None:
    client.models.push("digits", file)  # somebody answers there
    registry.on("PUT", BLOB, Lost, Answer(201, {"digest": DIGEST, "size": len(SOUND)}))
    client.models.push("digits", file)
    assert [asked.body for asked in registry.of("PUT", BLOB)] == [SOUND] * 3


def test_too_many_that_wait_are_told(registry: FakeSuite, client: Client, file: Path) -> None:
    registry.on("PUT", BLOB, problem(429, "100 files wait.", code="too-many-uploads", headers={"retry-after": "0"}))
    with pytest.raises(TooMany, match="100 files wait"):
        client.models.push("digits", file)


@pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.PT", "m.keras", "m.h5"])
def test_a_pickle_is_refused_before_it_is_sent(suite: FakeSuite, client: Client, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(NotAModel, match=r"skl2onnx\.to_onnx"):
        client.models.push("digits", tmp_path / name)
    assert suite.asked == []


def test_what_cannot_be_pushed_is_said_with_what_to_do(suite: FakeSuite, client: Client, tmp_path: Path) -> None:
    for name, content, words in (
        ("m.what", b"x", "format="),
        ("m.onnx", b"", "is empty"),
        ("m.safetensors", b"x", "--signature"),
        ("m.skops", b"x", "does not say what it takes"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NotAModel, match=words):
            client.models.push("digits", tmp_path / name)
    with pytest.raises(NotAModel, match="There is no file"):
        client.models.push("digits", tmp_path / "none.onnx")
    assert suite.asked == []


def test_a_name_of_any_kind_becomes_a_plain_one(registry: FakeSuite, client: Client, tmp_path: Path) -> None:
    for name, plain in (("mein Modell (1)..v2.onnx", "mein-Modell-1--.v2.onnx"), ("_._", "model")):
        path = tmp_path / name
        path.write_bytes(SOUND)
        client.models.push("digits", path, format="onnx")
        assert registry.asked[-1].json["formats"][0]["path"] == plain


def test_the_command_pushes_and_shows(registry: FakeSuite, call: Call, file: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text("[[1, 2, 3, 4]]")
    architecture = tmp_path / "arch.json"
    architecture.write_text('{"name": "mlp"}')
    given = ["-m", "accuracy=0.97", "-p", "epochs=3", "--example", f"@{rows}", "--architecture", str(architecture)]
    done = call("models", "push", "digits", str(file), *given, "--source", "notebook 7")
    assert done.exit_code == 0, done.stderr
    for words in ("digits@1", "x FP32[?, 4]", "y FP32[?, 4]", "onnx", "ada", "notebook 7"):
        assert words in done.stdout
    assert "trainyard deployment put digits digits@champion" in done.stderr
    sent = registry.of("POST", VERSIONS)[0].json
    assert sent["parameters"] == {"epochs": 3, "architecture": {"name": "mlp"}}
    assert (sent["metrics"], sent["input_example"]) == ({"accuracy": 0.97}, [{"x": [1, 2, 3, 4]}])
    registry.on("GET", f"{VERSIONS}/1", Answer(200, MADE))
    for command in ("show", "get"):
        assert "x FP32[?, 4]" in call("model", command, "digits@1").stdout
    assert json.loads(call("model", "push", "digits", str(file), "-o", "json").stdout)["version"] == 1


def test_a_signature_of_ones_own_goes_before_the_files(
    registry: FakeSuite, call: Call, file: Path, tmp_path: Path
) -> None:
    mine: dict[str, Any] = SIGNATURE | {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4]}]}
    (tmp_path / "sig.json").write_text(json.dumps(mine))
    assert call("model", "push", "digits", str(file), "--signature", str(tmp_path / "sig.json")).exit_code == 0
    assert registry.of("POST", VERSIONS)[0].json["signature"] == mine


def test_what_is_typed_wrong_is_told(call: Call, file: Path) -> None:
    for given in (["-m", "accuracy=good"], ["-m", "accuracy"], ["-m", "a=true"], ["--example", '{"x": 1}']):
        assert call("model", "push", "digits", str(file), *given).exit_code == 2
    done = call("model", "push", "digits", "none.onnx")
    assert (done.exit_code, "There is no file" in done.stderr) == (1, True)
