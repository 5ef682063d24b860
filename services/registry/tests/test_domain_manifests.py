"""What a manifest may say, and what its digest covers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from registry.domain import manifests
from registry.domain.manifests import Manifest, canonical, version_digest
from registry.testing import FILE, digest_of, file_of, manifest_of, twin

OTHER = digest_of(b"other")


def read(document: dict[str, Any]) -> Manifest:
    return Manifest.model_validate(document)


def changed(place: str, value: Any, *files: bytes) -> dict[str, Any]:
    """A manifest in which `lineage.dataset`, `formats.0.path` … is another."""
    document = manifest_of(*files)
    *way, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    at: Any = document
    for part in way:
        at = at[part]
    at[last] = value
    return document


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        read(document)
    return str(caught.value)


def test_a_manifest_reads_back() -> None:
    manifest = read(manifest_of(b"skops", b"onnx"))
    assert read(json.loads(canonical(manifest.document()))) == manifest


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("formats.0.digest", OTHER),
        ("formats.0.size", 21),
        ("formats.0.path", "other.skops"),
        ("signature.inputs.0.name", "origin"),
        ("signature.classes", [True, False]),
        ("lineage.dataset_digest", OTHER),
        ("parameters.seed", 1),
        ("parameters", {}),
    ],
)
def test_what_makes_another_model_makes_another_digest(place: str, value: Any) -> None:
    assert version_digest(read(changed(place, value))) != version_digest(read(manifest_of()))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("lineage.job", "018f0000-0000-7000-8000-00000000000f"),
        ("lineage.attempt", 2),
        ("lineage.dataset", "renamed@1"),
        ("lineage.code_digest", OTHER),
        ("lineage.environment", {"python": "3.13"}),
        ("metrics", {"roc_auc": 0.5}),
        ("twin.reason", "Other words."),
        ("input_example", []),
    ],
)
def test_the_same_model_made_again_has_the_same_digest(place: str, value: Any) -> None:
    assert version_digest(read(changed(place, value))) == version_digest(read(manifest_of()))


def test_another_task_is_another_digest() -> None:
    signature = {**manifest_of()["signature"], "task": "regression", "classes": []}
    regression = read(manifest_of(signature=signature, task="regression"))
    assert version_digest(regression) != version_digest(read(manifest_of()))


def test_the_signature_is_of_the_same_task() -> None:
    signature = {**manifest_of()["signature"], "task": "regression", "classes": []}
    assert "another task" in refusal(manifest_of(signature=signature))


def test_the_digest_is_that_of_the_documented_bytes() -> None:
    """Whoever reads the README can compute it. This one must never change."""
    document = manifest_of()
    covered = {
        "dataset": document["lineage"]["dataset_digest"],
        "formats": document["formats"],
        "manifest": 1,
        "parameters": document["parameters"],
        "signature": document["signature"],
        "task": "classification",
    }
    raw = json.dumps(covered, sort_keys=True, separators=(",", ":")).encode()
    assert version_digest(read(document)) == digest_of(raw)
    assert version_digest(read(document)) == "sha256:171a2003f898ce0a62b9fa78b35e7fad99e011547ad7b5a7387a06a924fa7333"


def test_the_order_of_files_and_members_does_not_matter() -> None:
    document = manifest_of(b"skops", b"onnx")
    turned = {name: document[name] for name in reversed(document)} | {"formats": document["formats"][::-1]}
    assert version_digest(read(turned)) == version_digest(read(document))


def test_one_and_one_point_zero_are_two_parameters() -> None:
    whole, real = (read(manifest_of(parameters={"max_features": value})) for value in (1, 1.0))
    assert version_digest(whole) != version_digest(real)


@pytest.mark.parametrize("path", ["model.skops", "a", "A-b_c.1", "x" * 128])
def test_plain_names_are_paths(path: str) -> None:
    assert read(changed("formats.0.path", path)).formats[0].path == path


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            ".",
            "..",
            "a/b",
            "../a",
            "/etc/passwd",
            "a\\b",
            ".hidden",
            "a.",
            "a..b",
            "-rf",
            "a b",
            'a"b',
            "a\n",
            "ä",
        ),
        *("a\0", "C:evil", "x" * 129, "a;filename=b", "%2e%2e", "a\r\nb"),
    ],
)
def test_everything_else_is_none(path: str) -> None:
    assert "plain file name" in refusal(changed("formats.0.path", path))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("formats", []),
        ("formats.0.format", "pickle"),
        ("formats.0.digest", "sha256:" + "A" * 64),
        ("formats.0.digest", OTHER + "\n"),
        ("formats.0.size", -1),
        ("formats.0.size", "20"),
        ("formats.0.size", True),
        ("formats.0.extra", 1),
        ("signature.inputs", []),
        ("signature.inputs.0.type", "object"),
        ("signature.inputs.0.name", ""),
        ("signature.outputs", [{"name": "a"}]),
        ("signature.classes", [True]),
        ("signature.classes", [True, True]),
        ("signature.classes", [True, 2]),
        ("signature.classes", [2**63, 1]),
        ("signature.task", "regression"),
        ("task", "clustering"),
        ("parameters", []),
        ("parameters.seed", 2**63),
        ("parameters.deep", [{"deeper": -(2**63) - 1}]),
        ("metrics.roc_auc", float("nan")),
        ("metrics.roc_auc", float("inf")),
        ("metrics.roc_auc", "0.7"),
        ("metrics.roc_auc", None),
        ("lineage.dataset", "flights"),
        ("lineage.dataset", "flights@0"),
        ("lineage.dataset_digest", "sha256:"),
        ("lineage.job", "7"),
        ("lineage.attempt", 0),
        ("lineage.environment", {"python": 3}),
        ("twin.tolerance", float("nan")),
        ("twin.max_difference", -1.0),
        ("input_example", [1]),
        ("input_example", [{"carrier": 2**70}]),
        ("unknown", 1),
    ],
)
def test_a_manifest_that_is_wrong_in_one_place_is_refused(place: str, value: Any) -> None:
    refusal(changed(place, value))


def test_an_input_is_named_once() -> None:
    column = manifest_of()["signature"]["inputs"][0]
    assert "each name once" in refusal(changed("signature.inputs", [column, column]))


@pytest.mark.parametrize(
    ("formats", "verdict"),
    [
        (["skops"], None),
        (["skops"], False),
        (["skops", "onnx"], True),
        (["onnx"], None),
    ],
)
def test_a_twin_is_there_exactly_when_it_was_kept(formats: list[str], verdict: bool | None) -> None:
    read(document_of(formats, verdict))


@pytest.mark.parametrize(
    ("formats", "verdict"),
    [
        (["skops"], True),
        (["skops", "onnx"], False),
        (["skops", "onnx"], None),
        (["onnx"], True),
        (["onnx"], False),
    ],
)
def test_a_twin_without_its_verdict_or_its_original_is_refused(formats: list[str], verdict: bool | None) -> None:
    refusal(document_of(formats, verdict))


def document_of(formats: list[str], verdict: bool | None) -> dict[str, Any]:
    files = [file_of(FILE, format) for format in formats]
    return manifest_of(formats=files, twin=None if verdict is None else twin(kept=verdict))


@pytest.mark.parametrize("path", ["model.skops", "MODEL.skops"])
def test_paths_differ_also_where_case_does_not_count(path: str) -> None:
    assert "once" in refusal(changed("formats.1.path", path, b"skops", b"onnx"))


def test_a_format_is_there_once() -> None:
    assert "once" in refusal(changed("formats.1.format", "skops", b"skops", b"onnx"))


def test_a_manifest_is_not_larger_than_it_may_be() -> None:
    manifests.check_size(read(changed("parameters.a", "x" * (manifests.LARGEST - 4096))))
    with pytest.raises(manifests.ManifestTooLarge):
        manifests.check_size(read(changed("parameters.a", "x" * manifests.LARGEST)))


def test_canonical_json_cannot_say_what_json_cannot() -> None:
    with pytest.raises(ValueError):
        canonical({"a": float("nan")})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_canonical_json_is_a_fixed_point(value: Any) -> None:
    raw = canonical(value)
    assert canonical(json.loads(raw)) == raw
    assert raw.isascii()
