"""What is done next about a step, and what its failures mean."""

import tomllib
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kit import errors
from pipelines.domain.definitions import StepSpec
from pipelines.domain.kinds import RELEASE, VERSIONS
from pipelines.domain.steps import (
    PATIENCE,
    TRIES,
    Again,
    Anew,
    Begin,
    Cancel,
    Elect,
    Fail,
    Next,
    Rest,
    Sight,
    Step,
    StepFailed,
    StepPhase,
    TimeOut,
    Work,
    judge,
    key_of,
    next_step,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SPEC = StepSpec("train", "train", needs=("ingest",), timeout=timedelta(minutes=10))
BEGUN: dict[str, Any] = {"phase": StepPhase.RUNNING, "inputs": {"a": 1}, "attempt": 1, "attempt_at": NOW}


def step_of(**given: Any) -> Step:
    values: dict[str, Any] = {"id": uuid.UUID(int=7), "project": "blue", "run_id": uuid.UUID(int=1), "spec": SPEC}
    return Step(**values | given)


@pytest.mark.parametrize(
    ("step", "need", "cancelled", "expected"),
    [
        (step_of(), StepPhase.WAITING, False, Rest()),
        (step_of(), StepPhase.RUNNING, False, Rest()),
        (step_of(), StepPhase.SUCCEEDED, False, Begin()),
        (step_of(), StepPhase.REUSED, False, Begin()),
        (step_of(), StepPhase.SKIPPED, False, Begin()),
        (step_of(**BEGUN), StepPhase.SUCCEEDED, False, Elect()),
        (step_of(**BEGUN, elected=True), StepPhase.SUCCEEDED, False, Work()),
        (step_of(**BEGUN, elected=True), StepPhase.SUCCEEDED, True, Cancel()),
        (step_of(), StepPhase.RUNNING, True, Cancel()),
        (step_of(**BEGUN | {"attempt_at": NOW - timedelta(minutes=10)}), StepPhase.SUCCEEDED, False, TimeOut()),
        (step_of(**BEGUN | {"attempt_at": NOW - timedelta(minutes=9)}), StepPhase.SUCCEEDED, False, Elect()),
        *[
            (step_of(**BEGUN | {"phase": phase}, elected=True), StepPhase.SUCCEEDED, True, Rest())
            for phase in ("succeeded", "reused", "skipped", "failed", "cancelled")
        ],
    ],
)
def test_next_step(step: Step, need: StepPhase, cancelled: bool, expected: Next) -> None:
    assert next_step(Sight(step, {"ingest": need}, cancelled, NOW)) == expected


def test_a_key_is_of_project_kind_and_inputs_in_any_order() -> None:
    key = key_of("blue", "train", {"a": 1, "b": 2})
    assert key == key_of("blue", "train", {"b": 2, "a": 1})
    assert len({key, key_of("red", "train", {"a": 1, "b": 2}), key_of("blue", "ingest", {"a": 1, "b": 2})}) == 3
    assert key != key_of("blue", "train", {"a": 1, "b": 3})


def test_what_another_release_or_another_version_of_a_kind_made_is_not_equal() -> None:
    keys = [
        key_of("blue", "train", {"a": 1}, release=release, versions={"train": version})
        for release, version in (("1.0", 1), ("1.1", 1), ("1.0", 2))
    ]
    assert len(set(keys)) == 3
    assert key_of("blue", "train", {"a": 1}) == key_of("blue", "train", {"a": 1}, release=RELEASE, versions=VERSIONS)


def test_the_packages_of_the_suite_have_one_version() -> None:
    """So the release of pipelines is that of the trainer and of the parser, which it cannot ask."""
    root = Path(__file__).parents[3]
    found = [*root.glob("services/*/pyproject.toml"), *root.glob("libs/*/pyproject.toml")]
    assert {tomllib.loads(file.read_text())["project"]["version"] for file in found} == {RELEASE}


@pytest.mark.parametrize("kind", ["gate", "promote", "deploy"])
def test_what_changes_nothing_when_nothing_changed_is_always_done(kind: str) -> None:
    assert key_of("blue", kind, {}) is None


def test_a_post_has_the_same_key_as_long_as_the_attempt_goes_on() -> None:
    first, tried, second = step_of(attempt=1), step_of(attempt=1, failures=5), step_of(attempt=2)
    assert first.idempotency_key == tried.idempotency_key != second.idempotency_key


def seconds(verdict: Again | Anew | Fail) -> float:
    assert not isinstance(verdict, Fail)
    return verdict.due_in.total_seconds()


def test_a_neighbour_that_is_away_is_waited_for_with_backoff() -> None:
    away = errors.Unavailable("ingest is not answering.")
    waits = [seconds(judge(away, step_of(failures=n), NOW)) for n in range(7)]
    assert waits == [0.25, 0.5, 1, 2, 4, 5, 5]


def test_a_neighbour_that_does_not_know_us_is_asked_again_and_not_for_ever() -> None:
    unknown = errors.Unauthenticated("The key is not known.")
    assert judge(unknown, step_of(), NOW) == Again(timedelta(milliseconds=250), "The key is not known.")
    assert isinstance(judge(unknown, step_of(failing_since=NOW - PATIENCE), NOW), Fail)


def test_a_neighbour_may_say_how_long_it_is_away() -> None:
    assert seconds(judge(errors.TooMany("Later.", retry_after=timedelta(seconds=30)), step_of(), NOW)) == 30
    assert seconds(judge(errors.Unavailable("Later.", retry_after=timedelta(days=1)), step_of(), NOW)) == 60


def test_patience_ends() -> None:
    away = errors.Unavailable("ingest is not answering.")
    assert isinstance(judge(away, step_of(failing_since=NOW - PATIENCE / 2), NOW), Again)
    # What may have been made is found again by a resume: the attempt is kept.
    assert judge(away, step_of(failing_since=NOW - PATIENCE), NOW) == Fail(
        "unavailable", "ingest is not answering.", anew=False
    )


def test_what_nobody_foresaw_is_tried_some_times_and_says_its_kind_only() -> None:
    error = TypeError("secret\0words")
    waits = [seconds(judge(error, step_of(failures=n), NOW)) for n in range(TRIES - 1)]
    assert waits == [0.25, 0.5, 1, 2, 4, 5, 5]
    message = "Something unforeseen went wrong (TypeError); the log of pipelines says more."
    for step in (step_of(failures=TRIES - 1), step_of(failing_since=NOW - PATIENCE)):
        assert judge(error, step, NOW) == Fail("internal", message, anew=False)


def test_words_that_no_database_keeps_are_not_said() -> None:
    assert judge(errors.Invalid("a\0b\ud800c"), step_of(), NOW) == Fail("invalid", "ab?c")


@pytest.mark.parametrize("error", [StepFailed("crashed", "It crashed."), errors.PreconditionFailed("It changed.")])
def test_what_may_pass_begins_anew_with_backoff_and_not_for_ever(error: errors.Error) -> None:
    waits = [seconds(judge(error, step_of(retried=n), NOW)) for n in range(2)]
    assert waits == [1, 2]
    assert isinstance(judge(error, step_of(retried=0), NOW), Anew)
    assert isinstance(judge(error, step_of(retried=2), NOW), Fail)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StepFailed("user-error", "No such column."), "user-error"),
        (StepFailed("gate", "It is false."), "gate"),
        (errors.Invalid("That cannot be."), "invalid"),
        (errors.Malformed("What?"), "invalid"),
        (errors.NotFound("Where?"), "refused"),
        (errors.Forbidden("No."), "refused"),
        (errors.Conflict("Not now."), "refused"),
    ],
)
def test_what_will_not_pass_is_never_tried_again(error: errors.Error, reason: str) -> None:
    assert judge(error, step_of(), NOW) == Fail(reason, error.detail)


def test_a_request_of_ours_that_is_still_under_way_is_waited_for() -> None:
    error = errors.Conflict("Under way.", upstream_code="idempotency-in-progress")
    assert judge(error, step_of(), NOW) == Again(timedelta(milliseconds=250), "Under way.")


def test_the_places_that_a_neighbour_named_are_passed_on() -> None:
    error = errors.Invalid("It cannot be.", errors=[{"pointer": "#/estimator", "detail": "is no estimator"}])
    assert judge(error, step_of(), NOW) == Fail("invalid", "It cannot be. #/estimator is no estimator")
