"""How a run goes on, and what it is begun with."""

from typing import Any

import pytest

from kit.roles import Role
from pipelines.domain.runs import (
    Advance,
    Node,
    ParametersInvalid,
    Phase,
    Skip,
    advance,
    parameters_of,
    role_of,
)
from pipelines.domain.steps import StepPhase, StepReason


def node(name: str, phase: str, *needs: str, if_skipped: str = "skip", reason: str = "", message: str = "") -> Node:
    return Node(name, needs, if_skipped, StepPhase(phase), reason, message)


NEED_FAILED, NEED_SKIPPED = StepReason.NEED_FAILED, StepReason.NEED_SKIPPED


@pytest.mark.parametrize(
    ("case", "nodes", "expected"),
    [
        ("what needs nothing begins", [node("a", "waiting"), node("b", "waiting", "a")], Advance(["a"])),
        (
            "independent steps begin together",
            [node("a", "succeeded"), node("b", "waiting", "a"), node("c", "waiting", "a")],
            Advance(["b", "c"]),
        ),
        (
            "all needs count",
            [node("a", "succeeded"), node("b", "running"), node("c", "waiting", "a", "b")],
            Advance([]),
        ),
        ("a reused step is done", [node("a", "reused"), node("b", "waiting", "a")], Advance(["b"])),
        (
            "behind a failure nothing begins, all the way",
            [
                node("a", "failed", message="No."),
                node("b", "waiting", "a"),
                node("c", "waiting", "b"),
                node("d", "running"),
            ],
            Advance([], {"b": Skip(NEED_FAILED, "a did not succeed."), "c": Skip(NEED_FAILED, "b did not succeed.")}),
        ),
        (
            "beside a failure all goes on",
            [node("a", "failed"), node("b", "succeeded"), node("c", "waiting", "b")],
            Advance(["c"]),
        ),
        (
            "behind a condition all is skipped",
            [node("a", "skipped", reason="condition"), node("b", "waiting", "a"), node("c", "running")],
            Advance([], {"b": Skip(NEED_SKIPPED, "a was skipped.")}),
        ),
        (
            "unless it is said otherwise",
            [node("a", "skipped", reason="condition"), node("b", "waiting", "a", if_skipped="run")],
            Advance(["b"]),
        ),
        (
            "but never behind a failure",
            [
                node("x", "failed"),
                node("a", "skipped", "x", reason="need-failed"),
                node("b", "waiting", "a", if_skipped="run"),
                node("c", "running"),
            ],
            Advance([], {"b": Skip(NEED_FAILED, "a did not succeed.")}),
        ),
        (
            "it has succeeded when everything has",
            [node("a", "succeeded"), node("b", "reused"), node("c", "skipped", reason="condition")],
            Advance([], {}, Phase.SUCCEEDED),
        ),
        (
            "it has succeeded when the rest is skipped",
            [node("a", "skipped", reason="condition"), node("b", "waiting", "a")],
            Advance([], {"b": Skip(NEED_SKIPPED, "a was skipped.")}, Phase.SUCCEEDED),
        ),
        (
            "it says which step failed, and why",
            [node("a", "failed", message="No such column."), node("b", "failed", reason="gate")],
            Advance([], {}, Phase.FAILED, "step-failed", "Step a failed: No such column. (1 more failed)"),
        ),
        (
            "a reason is better than nothing",
            [node("b", "failed", reason="gate")],
            Advance([], {}, Phase.FAILED, "step-failed", "Step b failed: gate"),
        ),
    ],
)
def test_advance(case: str, nodes: list[Node], expected: Advance) -> None:
    found = advance(nodes)
    assert (list(found.ready), found.skipped) == (list(expected.ready), expected.skipped), case
    assert (found.phase, found.reason, found.message) == (expected.phase, expected.reason, expected.message), case


@pytest.mark.parametrize(
    ("nodes", "phase"),
    [
        ([node("a", "running"), node("b", "waiting", "a")], None),
        ([node("a", "succeeded"), node("b", "cancelled", "a")], Phase.CANCELLED),
        ([node("a", "failed"), node("b", "cancelled", "a")], Phase.CANCELLED),
        ([node("a", "succeeded"), node("b", "succeeded", "a")], Phase.SUCCEEDED),
    ],
)
def test_a_cancelled_run_begins_nothing_and_ends_with_its_last_step(nodes: list[Node], phase: Phase | None) -> None:
    found = advance(nodes, cancelled=True)
    assert (list(found.ready), found.skipped, found.phase) == ([], {}, phase)


DEFAULTS: dict[str, Any] = {"upload": "", "auc": 1, "flag": False, "list": [], "object": {}, "anything": None}


def test_parameters_replace_defaults() -> None:
    given = {"upload": "x", "auc": 0.5, "flag": True, "list": [1], "object": {"a": 1}, "anything": [None]}
    assert parameters_of(DEFAULTS, given) == given
    assert parameters_of(DEFAULTS, {}) == DEFAULTS


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ({"nobody": 1}, "there is no parameter 'nobody'; there are: upload, auc"),
        ({"upload": 1}, "must be a string, as its default is; this is a number"),
        ({"auc": True}, "must be a number, as its default is; this is a boolean"),
        ({"auc": None}, "this is a null"),
        ({"flag": "true"}, "must be a boolean"),
        ({"list": {}}, "must be a list"),
        ({"object": []}, "must be a object"),
        ({"auc": 2**64}, "is a number beyond 64 bits"),
        ({"auc": -(2**63) - 1}, "is a number beyond 64 bits"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(given: dict[str, Any], detail: str) -> None:
    with pytest.raises(ParametersInvalid) as caught:
        parameters_of(DEFAULTS, given)
    [place] = caught.value.errors
    assert place["pointer"] == f"#/parameters/{next(iter(given))}"
    assert detail in place["detail"]


def test_a_number_beyond_64_bits_is_named_wherever_it_is() -> None:
    given = {"auc": 2**63 - 1, "list": [1, {"a": [True, 2**63]}]}
    with pytest.raises(ParametersInvalid) as caught:
        parameters_of(DEFAULTS | {"other": -(2**64), "least": -(2**63)}, given)
    places = sorted(place["pointer"] for place in caught.value.errors)
    assert places == ["#/parameters/list/1/a/1", "#/parameters/other"]


def test_a_pipeline_without_parameters_says_so() -> None:
    with pytest.raises(ParametersInvalid) as caught:
        parameters_of({}, {"a": 1})
    assert "there are: none" in caught.value.errors[0]["detail"]


def test_a_run_is_at_most_an_editor() -> None:
    assert [role_of(role) for role in Role] == [Role.VIEWER, Role.EDITOR, Role.EDITOR]
