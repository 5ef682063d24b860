"""References, and what a deployment is made of."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from targets import target

from serving.domain.deployments import Deployment, Part, Phase, Reason, Reference, ReferenceInvalid, Status
from serving.domain.observations import NOTHING, Observation, in_use, status_of
from serving.domain.revisions import Revision

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = uuid.UUID(int=7)
NAMED = "sha256:" + "ab" * 32


def deployment(number: int | None = 2) -> Deployment:
    revision = None if number is None else Revision(number, (target(),))
    models = (Part("late@champion", 100),)
    return Deployment(
        id=ID, project="demo", name="late", models=models, revision=revision, created_at=NOW, updated_at=NOW
    )


@pytest.mark.parametrize(
    ("text", "model", "version"),
    [
        ("late", "late", "latest"),
        ("late@3", "late", "3"),
        ("late@champion", "late", "champion"),
        ("a.b-c_d@v1.2", "a.b-c_d", "v1.2"),
        (f"late@{NAMED}", "late", NAMED),
    ],
)
def test_a_reference_names_a_model_and_a_version(text: str, model: str, version: str) -> None:
    assert Reference.of(text) == Reference(model, version)


@pytest.mark.parametrize(
    "text",
    ["", "@3", "late@", "Late", "late@@3", "late@a/b", "../late", "late@..", "late@sha256:ab", "a" * 64, "late@\0"],
)
def test_anything_else_is_no_reference(text: str) -> None:
    with pytest.raises(ReferenceInvalid):
        Reference.of(text)


def test_a_deployment_is_settled_when_its_status_speaks_of_what_is_wanted_now() -> None:
    ready = replace(deployment(), status=Status(Phase.READY), observed_generation=1)
    assert ready.is_settled
    assert not replace(ready, generation=2).is_settled
    assert not replace(ready, status=Status(Phase.PENDING)).is_settled
    assert ready.holder == f"serving/deployment/{ID}"


SERVING = Observation(2, 2)
BEFORE = Observation(2, 1)
BROKEN = Observation(2, 1, Reason.ARTIFACT_CORRUPT, "flipped")
AWAY = Observation(2, 1, Reason.REGISTRY_UNAVAILABLE, "away")


@pytest.mark.parametrize(
    ("observed", "phase", "reason"),
    [
        ([SERVING, SERVING], Phase.READY, Reason.NONE),
        ([SERVING, BEFORE], Phase.PENDING, Reason.LOADING),
        ([SERVING, NOTHING], Phase.PENDING, Reason.LOADING),
        ([SERVING, BROKEN], Phase.FAILED, Reason.ARTIFACT_CORRUPT),
        ([SERVING, AWAY], Phase.PENDING, Reason.REGISTRY_UNAVAILABLE),
        ([replace(BROKEN, tried=1), SERVING], Phase.PENDING, Reason.LOADING),
        ([], Phase.PENDING, Reason.NO_REPLICA),
    ],
    ids=[
        "all that live serve it",
        "one serves the revision before",
        "one has not heard of it",
        "one cannot load it",
        "one cannot fetch it just now",
        "one could not load the revision before",
        "nobody lives",
    ],
)
def test_what_replicas_observe_is_the_status(observed: list[Observation], phase: Phase, reason: Reason) -> None:
    found = status_of(deployment(), observed)
    assert (found.phase, found.reason) == (phase, reason)


def test_what_is_wanted_or_answers_somewhere_is_in_use() -> None:
    assert in_use(deployment(), [BEFORE, NOTHING]) == {1, 2}
    assert in_use(deployment(None), []) == set()
    assert in_use(replace(deployment(), removed_at=NOW), [BEFORE]) == {1}
