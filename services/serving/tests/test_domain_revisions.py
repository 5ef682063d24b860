"""What references mean, kept for ever."""

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from targets import SIGNATURE, digest, target

from serving.domain import desired
from serving.domain.desired import Desired, StateUnreadable
from serving.domain.limits import Limits
from serving.domain.revisions import File, NotServable, SignaturesDiffer, Target, is_same, require_alike
from serving.domain.shares import choose

ONNX = {"format": "onnx", "path": "model.onnx", "digest": digest("b"), "size": 10}
SKOPS = {"format": "skops", "path": "model.skops", "digest": digest("c"), "size": 20}


def found(*formats: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """As the registry describes a version."""
    described = {"model": "late", "version": 3, "digest": digest(), "formats": formats, "signature": SIGNATURE}
    return {**described, "input_example": [{"carrier": "UA"}], **changes}


def test_a_twin_is_preferred_to_its_original() -> None:
    assert Target.of(found(SKOPS, ONNX), 100).file == File("onnx", "model.onnx", digest("b"), 10)
    assert Target.of(found(SKOPS), 100).file.format == "skops"
    assert Target.of(found(SKOPS), 100).reference == "late@3"
    assert Target.of(found(SKOPS, input_example=None), 7) == target(
        3, 7, file=File("skops", "model.skops", digest("c"), 20), example=()
    )


def test_a_version_without_a_form_or_a_signature_that_is_known_is_not_servable() -> None:
    with pytest.raises(NotServable, match=r"late@3 has no form that can be served"):
        Target.of(found({**ONNX, "format": "pickle"}), 100)
    tensors = {
        "task": "tensors",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
        "classes": [],
    }
    with pytest.raises(NotServable, match=r"late@3 has no form that can be served"):
        Target.of(found(SKOPS, signature=tensors), 100)
    assert Target.of(found(SKOPS, ONNX, signature=tensors), 100).file.format == "onnx"
    with pytest.raises(NotServable, match=r"signature of late@3 is not understood"):
        Target.of(found(ONNX, signature={"inputs": []}), 100)


def test_a_target_survives_json_and_what_a_later_version_adds() -> None:
    document = json.loads(json.dumps(target().to_json()))
    assert Target.from_json(document) == target()
    assert Target.from_json(document | {"later": 1}) == target()


def test_who_made_a_file_and_what_its_weights_are_of_stay_known() -> None:
    architecture = {"name": "linear", "inputs": 1, "outputs": 1}
    pushed = {**ONNX, "format": "safetensors", "origin": "user"}
    made = Target.of(found(pushed, parameters={"architecture": architecture}), 100)
    assert (made.file.origin, made.architecture) == ("user", architecture)
    assert Target.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.order(Path("/x"))["architecture"] == architecture
    for said in (None, {}, {"architecture": 7}):
        assert Target.of(found(ONNX, parameters=said), 100).architecture is None


def test_a_row_from_before_there_were_uploads_is_this_platforms() -> None:
    document = json.loads(json.dumps(target().to_json()))
    del document["file"]["origin"], document["architecture"]
    assert Target.from_json(document) == target()
    assert target().file.origin == "platform"


def test_numbers_that_a_database_writes_in_another_way_make_no_other_revision() -> None:
    assert is_same([target(example=({"distance": 1e23},))], [target(example=({"distance": 10**23},))])
    assert not is_same([target(1)], [target(2)])
    assert not is_same([target(weight=1)], [target(weight=2)])
    assert not is_same([target()], [target(), target()])


def test_models_of_one_deployment_take_the_same_columns() -> None:
    require_alike([target(1), target(2)])
    other = {**SIGNATURE, "inputs": [{"name": "distance", "type": "number", "nullable": False}]}
    with pytest.raises(SignaturesDiffer) as raised:
        require_alike([target(1), target(2), target(3, signature=other)])
    assert raised.value.errors[0]["pointer"] == "#/models/2/model"


def test_what_is_served_survives_a_file() -> None:
    served = [Desired("demo", "late", uuid.UUID(int=1), 4, (target(1), target(2)))]
    served.append(replace(served[0], limits=Limits(3, 9, None), is_pinned=True))
    assert desired.load(desired.dump(served)) == served
    assert served[0].asks != served[1].asks


def test_a_file_of_a_release_that_knew_no_limits_is_read() -> None:
    served = [Desired("demo", "late", uuid.UUID(int=1), 4, (target(1),))]
    document = json.loads(desired.dump(served))
    for it in document["deployments"]:
        del it["limits"], it["pinned"]
    assert desired.load(json.dumps(document).encode()) == served


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}', b'{"format": 1, "deployments": [{}]}']
)
def test_a_file_of_another_kind_is_not_believed(content: bytes) -> None:
    with pytest.raises(StateUnreadable):
        desired.load(content)


def test_a_request_id_always_meets_the_same_model_and_all_together_meet_them_by_weight() -> None:
    weights = [70, 25, 5]
    chosen = [choose(weights, f"request-{number}") for number in range(20_000)]
    assert chosen == [choose(weights, f"request-{number}") for number in range(20_000)]
    for place, weight in enumerate(weights):
        assert chosen.count(place) / 20_000 == pytest.approx(weight / 100, abs=0.015)
    assert choose([1], "anything") == 0
