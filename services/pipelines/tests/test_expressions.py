"""Expressions in their child: what CEL says, and what happens to what is hostile."""

import signal
import sys
from datetime import timedelta
from typing import Any

import pytest

from kit import errors
from pipelines.clients.expressions import ChildExpressions
from pipelines.domain.expressions import Verdict

DATA: dict[str, Any] = {
    "steps": {"train": {"outputs": {"metrics": {"roc_auc": 0.7}, "version": 3, "nothing": None, "list": [1, 2]}}},
    "parameters": {"minimum_auc": 0.6, "n": 5, "name": "x", "on": True},
}


@pytest.fixture
def expressions() -> ChildExpressions:
    return ChildExpressions()


async def test_expressions_are_true_or_false(expressions: ChildExpressions) -> None:
    said = {
        "steps.train.outputs.metrics.roc_auc > parameters.minimum_auc": True,
        "steps.train.outputs.metrics.roc_auc > 0.8": False,
        "parameters.n > 4.5": True,
        "parameters.on": True,
        "steps['train'].outputs.version == 3": True,
        "has(steps.train.outputs.no)": False,
        "steps.train.outputs.nothing == null": True,
        "2 in steps.train.outputs.list": True,
        "parameters.name.startsWith('x') && size(parameters) == 4": True,
    }
    assert await expressions.evaluate(list(said), DATA) == [Verdict(value) for value in said.values()]


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("steps.train.outputs.no > 1", 'cannot be evaluated: Key not found in map : "no"'),
        ("parameters.name > 1", "cannot be evaluated: No matching overloads found"),
        ("parameters.n", "is not true or false but int"),
        ("parameters.name", "is not true or false but string"),
        ("1 + 1", "is not true or false but int"),
        ("'x'", "is not true or false but string"),
        ("1 +", "does not compile: "),
        ("nobody.x", "does not compile: "),
        ("'a' == 1", "does not compile: "),
        ("(" * 2000 + "true" + ")" * 2000, "does not compile: "),
    ],
)
async def test_what_has_no_answer_says_why(expressions: ChildExpressions, expression: str, error: str) -> None:
    [verdict] = await expressions.evaluate([expression], DATA)
    assert verdict.value is None
    assert verdict.error.startswith(error), verdict.error


async def test_each_is_judged_whatever_the_others_are(expressions: ChildExpressions) -> None:
    found = await expressions.evaluate(["true", "1 +", "steps.x.y", "false"], DATA)
    assert [verdict.value for verdict in found] == [True, None, None, False]


async def test_compiling_evaluates_nothing(expressions: ChildExpressions) -> None:
    found = await expressions.compile(["steps.nobody.outputs.x > 1", "parameters.x", "1 + 1", "true &&"])
    assert found[:2] == [None, None]
    assert found[2] == "is not true or false but int"
    assert str(found[3]).startswith("does not compile: 1:8: Syntax error")


NESTED = "[1,2,3,4,5,6,7,8,9,10]"
for _ in range(14):
    NESTED = f"[1,2,3,4,5,6,7,8,9,10].map(x, {NESTED})"


async def test_a_hostile_expression_costs_its_child_only(expressions: ChildExpressions) -> None:
    doubled = "parameters.name"
    for _ in range(40):
        doubled = f"[{doubled}].map(x, x + x)[0]"
    found = await ChildExpressions(seconds=3).evaluate(["true", f"size({NESTED}) > 0", f"{doubled} == ''"], DATA)
    assert found[0] == Verdict(True)
    assert [verdict.value for verdict in found[1:]] == [None, None]
    assert all(verdict.error for verdict in found[1:])


async def test_what_takes_too_long_is_named_and_the_rest_is_not_blamed() -> None:
    found = await ChildExpressions(seconds=1).evaluate(["true", *[f"size({NESTED}) > 0"] * 400], DATA)
    assert found[0] == Verdict(True)
    culprit = found.index(Verdict(None, "takes too long"))
    assert {verdict.error for verdict in found[culprit + 1 :]} == {"was not evaluated: one before it is at fault"}


async def test_what_takes_too_much_is_ended() -> None:
    [verdict] = await ChildExpressions(memory=1 << 20).evaluate(["true"], DATA)
    assert verdict == Verdict(None, "takes too much memory")


async def test_an_evaluator_that_is_broken_is_no_verdict_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(errors.Unavailable):
        await child("sys.exit('no such library')").evaluate(["true"], DATA)
    [record] = [record for record in caplog.records if record.message == "evaluator ended"]
    assert (record.__dict__["code"], record.__dict__["why"]) == (1, "no such library\n")


def child(program: str, **given: Any) -> ChildExpressions:
    """An evaluator that does that instead."""
    return ChildExpressions(program=[sys.executable, "-I", "-c", f"import os, signal, sys; {program}"], **given)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_child_that_others_ended_says_nothing_about_its_expressions(number: signal.Signals) -> None:
    with pytest.raises(errors.Unavailable):
        await child(f"os.kill(os.getpid(), {number:d})").evaluate(["true"], DATA)


async def test_a_child_that_the_machine_holds_up_says_nothing_about_its_expressions() -> None:
    with pytest.raises(errors.Unavailable):
        await child("signal.pause()", deadline=timedelta(milliseconds=300)).evaluate(["true"], DATA)


async def test_an_expression_that_breaks_its_evaluator_is_named() -> None:
    [verdict] = await child("os.kill(os.getpid(), signal.SIGSEGV)").evaluate(["true"], DATA)
    assert verdict == Verdict(None, "ends its evaluator")


async def test_data_that_cel_does_not_know_is_an_error(expressions: ChildExpressions) -> None:
    [verdict] = await expressions.evaluate(["parameters.big > 1"], {"steps": {}, "parameters": {"big": 2**64 - 1}})
    assert verdict.value in (None, True)
