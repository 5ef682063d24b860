"""The program in the child, in this process: what it says of each expression."""

from typing import Any

import pytest
from cel_expr_python import cel

from pipelines.cel.__main__ import judge, main, words_of

DATA: dict[str, Any] = {"steps": {}, "parameters": {"n": 1, "name": "x"}}


@pytest.fixture(scope="module")
def env() -> Any:
    members = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.NewEnv(variables={"steps": members, "parameters": members})


@pytest.mark.parametrize(
    ("expression", "value", "error"),
    [
        ("parameters.n > 0", True, ""),
        ("parameters.n > 1", False, ""),
        ("parameters.n", None, "is not true or false but int"),
        ("1", None, "is not true or false but int"),
        ("parameters.no", None, 'cannot be evaluated: Key not found in map : "no"'),
    ],
)
def test_an_answer_is_bool_or_none(env: Any, expression: str, value: bool | None, error: str) -> None:
    assert judge(env, expression, DATA) == (value, error)


def test_without_data_it_only_compiles(env: Any) -> None:
    assert judge(env, "parameters.no", None) == (None, "")
    assert judge(env, "1 +", None)[1].startswith("does not compile: 1:4: Syntax error")


def test_data_of_another_kind_is_an_error(env: Any) -> None:
    value, error = judge(env, "parameters.n > 0", {"steps": {}, "parameters": {"n": object()}})
    assert value is None
    assert error.startswith("cannot be evaluated: ")


def test_a_task_is_answered_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main('{"expressions": ["true", "1 +"], "data": null}') == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == '{"value": null, "error": ""}'
    assert "does not compile" in second


def test_words_are_without_the_librarys_codes() -> None:
    assert words_of("INVALID_ARGUMENT: ERROR: <input>:1:5: Syntax error: x\n | 1 +\n") == "1:5: Syntax error: x"
    assert words_of("x" * 1000) == "x" * 300
