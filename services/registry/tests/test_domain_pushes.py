"""What a user may say of a model that was made elsewhere."""

from typing import Any

import pytest
from model_files import SOUND
from pydantic import ValidationError

from registry.domain.manifests import Lineage, Manifest, Push, Trained, version_digest
from registry.testing import digest_of, manifest_of

ONNX = SOUND["onnx"]
TENSORS = {
    "task": "tensors",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
    "classes": [],
}


def file_of(data: bytes, format: str = "onnx", **changes: Any) -> dict[str, Any]:
    return {"format": format, "path": f"model.{format}", "digest": digest_of(data), "size": len(data)} | changes


def push_of(data: bytes = ONNX, format: str = "onnx", **changes: Any) -> dict[str, Any]:
    return {"formats": [file_of(data, format)], "signature": TENSORS} | changes


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a pickle by its name": ({"formats": [file_of(ONNX, "pickle")]}, "#/formats/0/format"),
    "keras": ({"formats": [file_of(ONNX, "keras")]}, "#/formats/0/format"),
    "an origin that is ours": ({"formats": [file_of(ONNX, origin="platform")]}, "#/formats/0/origin"),
    "no file": ({"formats": []}, "#/formats"),
    "two of a format": ({"formats": [file_of(ONNX), file_of(ONNX, path="b.onnx")]}, "#"),
    "two of a path": ({"formats": [file_of(ONNX), file_of(ONNX, "pt2", path="MODEL.onnx")]}, "#"),
    "an unproved twin": ({"formats": [file_of(ONNX), file_of(SOUND["skops"], "skops")]}, "#"),
    "a twin": ({"twin": None}, "#/twin"),
    "another's lineage": ({"lineage": {"source": "", "by": "bob"}}, "#/lineage/by"),
    "weights of nothing": ({"formats": [file_of(ONNX, "safetensors")]}, "#"),
    "weights of no name": (
        {"formats": [file_of(ONNX, "safetensors")], "parameters": {"architecture": {"name": 3}}},
        "#",
    ),
    "an example of nothing": ({"input_example": [{}]}, "#"),
    "an example of something else": ({"input_example": [{"x": 1, "z": 1}]}, "#"),
    "an example that is no row": ({"input_example": [[1.0]]}, "#/input_example/0"),
    "a task that is none": ({"signature": manifest_of()["signature"] | {"task": "dreams"}}, "#/signature/task"),
    "no signature": ({"signature": None}, "#/signature"),
    "a datatype that is none": (
        {"signature": TENSORS | {"inputs": [{"name": "x", "datatype": "OBJECT", "shape": []}]}},
        "#/signature/inputs/0/datatype",
    ),
    "a shape that is none": (
        {"signature": TENSORS | {"outputs": [{"name": "x", "datatype": "FP32", "shape": [-2]}]}},
        "#/signature/outputs/0/shape/0",
    ),
    "a size of nothing": (
        {"signature": TENSORS | {"outputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 0]}]}},
        "#/signature/outputs/0/shape/1",
    ),
    "a name twice": ({"signature": TENSORS | {"inputs": 2 * TENSORS["inputs"]}}, "#/signature"),  # type: ignore[operator]
    "classes of tensors": ({"signature": TENSORS | {"classes": ["a", "b"]}}, "#/signature/classes"),
    "numbers that are none": ({"parameters": {"a": 2**70}}, "#/parameters"),
}


def pointer_of(document: Any) -> str:
    """Of the first mistake."""
    with pytest.raises(ValidationError) as caught:
        Push.model_validate(document)
    return "/".join(["#", *map(str, caught.value.errors()[0]["loc"])])


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_has_its_place(what: str) -> None:
    changes, pointer = WRONG[what]
    assert pointer_of(push_of(**changes)) == pointer


def test_every_file_of_it_is_a_users() -> None:
    push = Push.model_validate(push_of(lineage={"source": "notebook 7"}))
    manifest = push.manifest("ada" * 1000)
    assert [file.origin for file in manifest.formats] == ["user"]
    assert manifest.document()["lineage"] == {"source": "notebook 7", "by": ("ada" * 1000)[:256]}
    assert (manifest.task, manifest.twin, manifest.dataset_digest) == ("tensors", None, None)
    assert Manifest.model_validate(manifest.document()) == manifest
    assert push.manifest("bob").document()["formats"][0]["origin"] == "user"


def test_who_pushed_it_and_whence_makes_no_other_version() -> None:
    one = Push.model_validate(push_of()).manifest("ada")
    assert version_digest(one) == version_digest(Push.model_validate(push_of(metrics={"a": 1.0})).manifest("bob"))
    assert version_digest(one) != version_digest(Push.model_validate(push_of(parameters={"a": 1})).manifest("ada"))


def test_what_the_platform_wrote_has_no_origin_and_the_digest_that_it_always_had() -> None:
    manifest = Manifest.model_validate(manifest_of(b"skops", b"onnx"))
    assert isinstance(manifest.lineage, Lineage)
    assert [sorted(file) for file in manifest.document()["formats"]] == [["digest", "format", "path", "size"]] * 2
    # Written down when there was no origin: rows of that time are found by it.
    assert version_digest(manifest) == "sha256:e4006f6b8337e8c7859fe3a5d3e866e7c4b1d289496da78d86ca761d24d4efcf"


def test_a_signature_that_was_read_is_one() -> None:
    push = Push.model_validate(push_of())
    assert Push(**{**push_of(), "signature": push.signature}) == push


def test_weights_say_what_they_are_the_weights_of() -> None:
    architecture = {"architecture": {"name": "mlp", "sizes": [4, 4]}}
    push = Push.model_validate(push_of(SOUND["safetensors"], "safetensors", parameters=architecture))
    assert push.manifest("ada").parameters["architecture"]["name"] == "mlp"


def test_a_job_has_made_no_users_file() -> None:
    document = manifest_of()
    assert Trained.model_validate(document).lineage.job
    document["formats"][0]["origin"] = "user"
    with pytest.raises(ValidationError, match="no user's"):
        Trained.model_validate(document)
