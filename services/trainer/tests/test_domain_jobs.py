"""What a job may ask for, and what an attempt's end is called."""

from datetime import timedelta
from typing import Any

import pytest
from makers import attempt_of, job_of, result_of, spec_of

from kit import errors
from trainer.domain.attempts import AttemptResult, Estimator, Outcome, Preprocessing
from trainer.domain.jobs import Reason, Why
from trainer.domain.leased import AttemptPhase, ending_of
from trainer.domain.specs import DatasetReference, check, missing_columns

ENDINGS = {
    "a whole result is a success": (0, result_of(), None, AttemptPhase.SUCCEEDED, Reason.NONE),
    "a stop hands nothing over": (75, result_of(outcome=Outcome.STOPPED), None, AttemptPhase.STOPPED, Reason.STOPPED),
    "the author's mistake is the author's": (
        65,
        result_of(outcome=Outcome.USER_ERROR, message="no", hint="yes"),
        None,
        AttemptPhase.FAILED,
        Reason.USER_ERROR,
    ),
    "our mistake is ours": (
        70,
        result_of(outcome=Outcome.PLATFORM_ERROR, message="ValueError: x"),
        None,
        AttemptPhase.FAILED,
        Reason.PLATFORM_ERROR,
    ),
    "too little memory is called so": (
        70,
        result_of(outcome=Outcome.PLATFORM_ERROR, message="MemoryError: "),
        None,
        AttemptPhase.FAILED,
        Reason.OUT_OF_MEMORY,
    ),
    "a signal is a crash": (-9, None, None, AttemptPhase.FAILED, Reason.CRASHED),
    "a code without a result is a crash": (0, None, None, AttemptPhase.FAILED, Reason.CRASHED),
    "an end that nobody saw is a crash": (None, None, None, AttemptPhase.FAILED, Reason.CRASHED),
    "what kept it from starting is said": (
        None,
        None,
        Why(Reason.INPUTS_UNAVAILABLE, "a shard is damaged"),
        AttemptPhase.FAILED,
        Reason.INPUTS_UNAVAILABLE,
    ),
}


@pytest.mark.parametrize(("code", "result", "failure", "phase", "reason"), ENDINGS.values(), ids=ENDINGS.keys())
def test_endings(
    code: int | None, result: AttemptResult | None, failure: Why | None, phase: AttemptPhase, reason: Reason
) -> None:
    ending = ending_of(code, result, failure)
    assert (ending.phase, ending.why.reason) == (phase, reason)
    assert bool(ending.why.message) == (phase is AttemptPhase.FAILED)


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("flights", "flights", "latest"),
        ("flights@3", "flights", "3"),
        ("flights@latest", "flights", "latest"),
        ("flights@sha256:" + "a" * 64, "flights", "sha256:" + "a" * 64),
    ],
)
def test_a_dataset_reference_is_a_name_and_perhaps_a_version(text: str, name: str, version: str) -> None:
    assert DatasetReference.parse(text) == DatasetReference(name, version)


@pytest.mark.parametrize("text", ["", "@3", "flights@", "flights@0", "flights@champion", "../x", "a..b", "Flights"])
def test_anything_else_is_no_dataset_reference(text: str) -> None:
    with pytest.raises(errors.Invalid) as refused:
        DatasetReference.parse(text)
    assert refused.value.errors[0]["pointer"] == "#/dataset"


MISTAKES = {
    "an unknown estimator": ({"estimator": Estimator("os.system")}, ["#/estimator/class"]),
    "a parameter that is the platform's": (
        {"estimator": Estimator("sklearn.tree.DecisionTreeClassifier", {"random_state": 1})},
        ["#/estimator/parameters/random_state"],
    ),
    "an estimator of another task": ({"task": "regression"}, ["#/estimator/class"]),
    "an unknown preprocessing": ({"preprocessing": Preprocessing(numeric="magic")}, ["#/preprocessing/numeric"]),
    "a deadline of nothing": ({"deadline": timedelta(0)}, ["#/deadline"]),
    "a deadline of a month": ({"deadline": timedelta(days=30)}, ["#/deadline"]),
    "a model without a proper name": ({"model": "../etc"}, ["#/register/model"]),
    "no features at all": ({"features": ()}, ["#/features"]),
    "the target among the features": ({"features": ("hour", "late")}, ["#/features/1"]),
    "a feature twice": ({"features": ("hour", "hour")}, ["#/features/1"]),
    "the target as its own baseline": ({"baseline": ("late",)}, ["#/baseline/0"]),
    "a dataset that is none": ({"dataset": "a b"}, ["#/dataset"]),
}


@pytest.mark.parametrize(("given", "pointers"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_job_that_can_never_be_run_is_refused_with_every_place(given: dict[str, Any], pointers: list[str]) -> None:
    with pytest.raises(errors.Invalid) as refused:
        check(spec_of(**given))
    assert [place["pointer"] for place in refused.value.errors] == pointers


def test_an_ordinary_job_may_be_run() -> None:
    check(spec_of(features=("hour", "carrier"), baseline=("carrier",)))


def test_columns_that_are_not_there_are_named_with_their_places() -> None:
    spec = spec_of(target="late", features=("hour", "wind"), baseline=("carrier",))
    places = missing_columns(spec, ["hour", "carrier"])
    assert [place["pointer"] for place in places] == ["#/target", "#/features/1"]
    assert "there are hour, carrier" in places[0]["detail"]


def test_names_of_holders_and_owners_are_made_of_ids() -> None:
    job = job_of()
    assert job.holder == f"trainer/job/{job.id}"
    attempt = attempt_of(job)
    assert attempt.owner == f"attempt:{attempt.id}"
