"""References in `with`, and what CEL expressions speak of."""

from typing import Any

import pytest

from pipelines.domain.expressions import names_in, values_in
from pipelines.domain.references import (
    Reference,
    ReferenceMissing,
    Unreadable,
    is_reference,
    references_in,
    resolve,
)

PARAMETERS = {"upload": "sha256:x", "n": 3, "nested": {"a": None}}
OUTPUTS: dict[str, dict[str, Any]] = {"train": {"version": 2, "metrics": {"roc_auc": 0.7}}, "my-step": {"list": [1]}}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no reference", []),
        ("${{ parameters.upload }}", [Reference("upload", None, ())]),
        ("${{steps.my-step.outputs.a.b}}", [Reference(None, "my-step", ("a", "b"))]),
        ("x${{ parameters.a }}${{ parameters.b }}", [Reference("a", None, ()), Reference("b", None, ())]),
        ("${{ steps.a.outputs }}", [Reference(None, "a", ())]),
    ],
)
def test_references_are_found(text: str, found: list[Reference]) -> None:
    assert references_in(text) == found
    assert is_reference(text) == bool(found)


@pytest.mark.parametrize(
    "text",
    [
        "${{ }}",
        "${{ env.HOME }}",
        "${{ steps.a.status }}",
        "${{ parameters }}",
        "${{ 1 + 1 }}",
        "${{ parameters.a",
        "a ${{ parameters.a }} ${{ b",
        "${{ steps.A.outputs.x }}",
        "${{ parameters.a['b'] }}",
    ],
)
def test_what_names_nothing_is_unreadable(text: str) -> None:
    assert any(isinstance(found, Unreadable) for found in references_in(text))


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("${{ steps.train.outputs.version }}", 2),
        ("${{ steps.train.outputs.metrics }}", {"roc_auc": 0.7}),
        ("delays@${{ steps.train.outputs.version }}", "delays@2"),
        ("${{ parameters.upload }}/${{ parameters.n }}", "sha256:x/3"),
        ("${{ parameters.nested.a }}", None),
        ("${{ parameters.nested }}!", '{"a":null}!'),
        ({"a": ["${{ parameters.n }}", 1, None, "b"]}, {"a": [3, 1, None, "b"]}),
        ("${{ steps.my-step.outputs.list }}", [1]),
        ("${{ steps.train.outputs }}", OUTPUTS["train"]),
    ],
)
def test_references_become_what_they_name(value: object, resolved: object) -> None:
    assert resolve(value, PARAMETERS, OUTPUTS) == resolved


@pytest.mark.parametrize(
    "text",
    [
        "${{ steps.train.outputs.nothing }}",
        "${{ steps.nobody.outputs.x }}",
        "${{ steps.nobody.outputs }}",
        "${{ parameters.nobody }}",
        "${{ parameters.n.x }}",
        "${{ unreadable }}",
    ],
)
def test_what_is_not_there_is_missing(text: str) -> None:
    with pytest.raises(ReferenceMissing):
        resolve(text, PARAMETERS, OUTPUTS)


def test_a_reference_is_written_as_it_was() -> None:
    assert str(Reference(None, "train", ("a", "b"))) == "steps.train.outputs.a.b"
    assert str(Reference("n", None, ("a",))) == "parameters.n.a"


@pytest.mark.parametrize(
    ("expression", "steps", "parameters"),
    [
        ("steps.a.outputs.x > parameters.b", {"a"}, {"b"}),
        ('steps["my-step"].outputs.x == 1', {"my-step"}, set()),
        ("steps [ 'a' ] . outputs.x", {"a"}, set()),
        ("'steps.no.x' == \"parameters.no\"", set(), set()),
        ("r'steps.no.x' == '''steps.no'''", set(), set()),
        ("foo.steps.no || steps . yes . outputs", {"yes"}, set()),
        ("has(steps.a.outputs.x) && size(parameters.list) > 0", {"a"}, {"list"}),
        ("true", set(), set()),
    ],
)
def test_names_are_seen(expression: str, steps: set[str], parameters: set[str]) -> None:
    assert names_in(expression) == (steps, parameters)


def test_a_false_expression_is_explained_by_its_values() -> None:
    data = {"steps": {"train": {"outputs": {"metrics": {"roc_auc": 0.61}}}}, "parameters": {"minimum": 0.68}}
    said = values_in("steps.train.outputs.metrics.roc_auc > parameters.minimum && steps.x.outputs.y.z", data)
    assert said == (
        "steps.train.outputs.metrics.roc_auc = 0.61, parameters.minimum = 0.68, steps.x.outputs.y.z = missing"
    )


@pytest.mark.parametrize(
    ("expression", "steps"),
    [
        ("'unclosed steps.a.x", set()),
        ("'''unclosed steps.a.x", set()),
        ("'''a ' steps.no.x''' + steps.yes.x", {"yes"}),
        (r"'it\'s steps.no.x' + steps.yes.x", {"yes"}),
        ("'' + steps.yes.x + \"\"", {"yes"}),
    ],
)
def test_strings_are_passed_over(expression: str, steps: set[str]) -> None:
    assert names_in(expression)[0] == steps
