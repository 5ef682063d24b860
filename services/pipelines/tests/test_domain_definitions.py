"""Definitions: each mistake is named with its place, and all at once."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from worlds import DEPLOY, GATE, INGEST, TRAIN, UPLOAD, main_job, pipeline_of

from pipelines.domain.definitions import (
    MAX_ERRORS,
    Expression,
    check,
    definition_of,
    refusal,
    span_of,
)
from pipelines.domain.documents import Document, read_yaml
from pipelines.domain.kinds import Deploy, Ingest, StepInputsInvalid, Train, inputs_of, is_name

EXAMPLE = Path(__file__).parents[3] / "examples/flight-delays/pipeline.yaml"


def mistakes(document: Any) -> dict[str, str]:
    _, places = check(Document(document))
    return {place["pointer"]: place["detail"] for place in places}


def gate(**more: Any) -> dict[str, Any]:
    return {"kind": "gate", "with": {"require": ["true"]}, **more}


@pytest.mark.parametrize("document", [main_job(), read_yaml(EXAMPLE.read_bytes()).value])
def test_the_main_job_has_no_mistakes(document: Any) -> None:
    definition, places = check(Document(document))
    assert places == []
    assert definition is not None
    assert definition.steps["train"].needs == ("ingest",)
    assert definition.steps["ingest"].timeout == timedelta(hours=2)
    assert definition.expressions[0].pointer == "#/steps/gate/with/require/0"


def test_steps_say_what_becomes_of_them() -> None:
    step = gate(when="parameters.on", retries=0, timeout="90s", if_skipped="run", needs=["a"])
    definition = definition_of(pipeline_of({"on": True}, a=gate(), b=step))
    b = definition.steps["b"]
    assert (b.when, b.retries, b.timeout, b.if_skipped) == ("parameters.on", 0, timedelta(seconds=90), "run")
    assert definition.expressions[1:] == [
        Expression("#/steps/b/when", "parameters.on"),
        Expression("#/steps/b/with/require/0", "true"),
    ]


@pytest.mark.parametrize(
    ("document", "pointer", "detail"),
    [
        (None, "#", "valid dictionary"),
        ([], "#", "valid dictionary"),
        ({}, "#/steps", "required"),
        ({"steps": {}}, "#/steps", "at least 1"),
        ({"steps": {"a": {}}}, "#/steps/a/kind", "required"),
        ({"steps": {"a": gate()}, "more": 1}, "#/more", "not permitted"),
        ({"steps": {"a": gate(retries=11)}}, "#/steps/a/retries", "less than or equal to 10"),
        ({"steps": {"a": gate(retries=True)}}, "#/steps/a/retries", "valid integer"),
        ({"steps": {"a": gate(if_skipped="no")}}, "#/steps/a/if_skipped", "'skip' or 'run'"),
        (pipeline_of(a={"kind": "cook"}), "#/steps/a/kind", "no kind 'cook'; there are ingest, train"),
        (pipeline_of(a={"kind": "gate"}), "#/steps/a/with/require", "required"),
        (pipeline_of(a={"kind": "gate", "with": {"require": ["true"], "x": 1}}), "#/steps/a/with/x", "not permitted"),
        (pipeline_of(a={"kind": "gate", "with": {"require": [1]}}), "#/steps/a/with/require/0", "valid string"),
        (pipeline_of(a=gate(timeout="soon")), "#/steps/a/timeout", "such as 30s"),
        (pipeline_of(a=gate(timeout="0s")), "#/steps/a/timeout", "such as 30s"),
        (pipeline_of(a=gate(needs=["b"])), "#/steps/a/needs/0", "no step 'b'"),
        (pipeline_of(a=gate(), b=gate(needs=["a", "a"])), "#/steps/b/needs/1", "twice"),
        (pipeline_of(a=gate(needs=["a"])), "#/steps/a/needs", "a → a"),
        (
            pipeline_of(c=gate(needs=["b"]), b=gate(needs=["a"]), a=gate(needs=["c"])),
            "#/steps/a/needs",
            "in a circle: a → c → b → a",
        ),
        (pipeline_of(**{"Not a name": gate()}), "#/steps/Not a name", "step's name"),
        (pipeline_of({"a-b": 1}, a=gate()), "#/parameters/a-b", "parameter's name"),
        (pipeline_of(a=gate(when="parameters.x")), "#/steps/a/when", "no parameter 'x'"),
        (pipeline_of(a=gate(when="steps.x.outputs.y")), "#/steps/a/when", "no step 'x'"),
        (pipeline_of(a=gate(), b=gate(when="steps.a.outputs.y")), "#/steps/b/when", "'a' is not among the steps"),
        (
            pipeline_of(a=gate(), b={"kind": "gate", "with": {"require": ["steps.a.outputs.passed"]}}),
            "#/steps/b/with/require/0",
            "'a' is not among the steps that 'b' needs",
        ),
        (
            pipeline_of(a=INGEST | {"with": INGEST["with"] | {"upload": "${{ parameters.nobody }}"}}),
            "#/steps/a/with/upload",
            "no parameter 'nobody'",
        ),
        (
            pipeline_of(a=INGEST | {"with": INGEST["with"] | {"upload": "${{ secrets.x }}"}}),
            "#/steps/a/with/upload",
            "names nothing",
        ),
        (
            pipeline_of(a=gate(), b=TRAIN | {"needs": ["a"]}),
            "#/steps/b/with/dataset",
            "no step 'ingest'",
        ),
        (
            pipeline_of({"upload": UPLOAD}, ingest=INGEST, b=TRAIN | {"needs": []}),
            "#/steps/b/with/dataset",
            "'ingest' is not among the steps that 'b' needs",
        ),
        (
            pipeline_of(a=DEPLOY | {"needs": [], "with": {"deployment": "x"}}),
            "#/steps/a/with",
            "either model or models",
        ),
        (
            pipeline_of(a={"kind": "promote", "with": {"model": "M", "version": 1, "alias": "a"}}),
            "#/steps/a/with/model",
            "a name has 1 to 63",
        ),
        (
            pipeline_of(a={"kind": "promote", "with": {"model": "m", "version": "1", "alias": "a"}}),
            "#/steps/a/with/version",
            "valid integer",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(document: Any, pointer: str, detail: str) -> None:
    found = mistakes(document)
    assert pointer in found, found
    assert detail in found[pointer]


def test_every_mistake_is_named_at_once() -> None:
    wrong = pipeline_of(
        a={"kind": "cook", "needs": ["nobody"]},
        b=gate(needs=["c"], timeout="x"),
        c=gate(needs=["b"], when="parameters.no"),
    )
    assert mistakes(wrong).keys() == {
        "#/steps/a/kind",
        "#/steps/a/needs/0",
        "#/steps/b/timeout",
        "#/steps/b/needs",
        "#/steps/c/when",
    }


def test_a_mistake_in_yaml_has_its_line() -> None:
    document = read_yaml(b"steps:\n  a:\n    kind: cook\n    with:\n      x: ${{ parameters.no }}\n")
    _, places = check(document)
    assert [(place["pointer"], place.get("line")) for place in places] == [
        ("#/steps/a/kind", 3),
        ("#/steps/a/with/x", 5),
    ]


def test_there_is_an_end_to_mistakes() -> None:
    _, places = check(Document(pipeline_of(**{f"a{n}": {"kind": "cook"} for n in range(200)})))
    assert len(places) == MAX_ERRORS
    assert len(json.dumps(refusal(places).errors)) < 100_000


def test_what_a_reference_will_replace_is_not_judged_yet() -> None:
    reference = "${{ parameters.x }}"
    step = {"kind": "promote", "with": {"model": reference, "version": reference, "alias": reference}}
    assert mistakes(pipeline_of({"x": 1}, a=step)) == {}


def test_the_refusal_says_the_first_mistake_and_how_many() -> None:
    _, places = check(Document(pipeline_of(a={"kind": "cook"}, b=gate(needs=["x"]))))
    assert refusal(places).detail.startswith("The pipeline has 2 mistakes: #/steps/a/kind: there is no kind")
    assert refusal(places[:1]).detail.startswith("The pipeline has 1 mistake: ")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86400), ("", None), ("1w", None)]
)
def test_time_spans(text: str, seconds: int | None) -> None:
    assert span_of(text) == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("text", "good"), [("a", True), ("a.b-c_d", True), ("a..b", False), ("A", False), ("-a", False), ("a" * 64, False)]
)
def test_names(text: str, good: bool) -> None:
    assert is_name(text) is good


def test_inputs_are_what_each_kind_takes() -> None:
    given = inputs_of("ingest", {"dataset": "flights", "upload": UPLOAD})
    assert isinstance(given, Ingest)
    assert (given.format, given.compression, given.settings) == ("csv", None, None)


def test_inputs_that_do_not_fit_are_named() -> None:
    with pytest.raises(StepInputsInvalid, match=r"with\.upload: String should match.*with\.format"):
        inputs_of("ingest", {"dataset": "flights", "upload": "", "format": "xml"})


def test_a_number_that_only_a_neighbour_says_may_be_too_large() -> None:
    estimator = {"class": "x", "parameters": {"deep": [{"max_depth": 2**64}]}}
    with pytest.raises(StepInputsInvalid, match=r"with.estimator.parameters.deep.0.max_depth: a number beyond 64 bits"):
        inputs_of("train", TRAIN["with"] | {"dataset": "flights@1", "estimator": estimator})


@pytest.mark.parametrize("reference", ["a", "a@1", "a@latest", "a@champion", f"a.b-c@sha256:{'0' * 64}"])
def test_references_are_names_and_versions(reference: str) -> None:
    assert inputs_of("deploy", {"deployment": "x", "model": reference}).model_dump()["model"] == reference


@pytest.mark.parametrize("reference", ["", "@1", "a@", "a@1\n", "a@..", "a@b..c", "a@sha256:0", "a@1/x", "a@1@2"])
def test_what_is_no_reference_is_named(reference: str) -> None:
    document = pipeline_of(a={"kind": "deploy", "with": {"deployment": "x", "model": reference}})
    assert "name@3" in mistakes(document)["#/steps/a/with/model"]


def test_a_job_is_told_what_was_said_and_no_more() -> None:
    given = inputs_of("train", TRAIN["with"] | {"dataset": "flights@1"})
    assert isinstance(given, Train)
    assert given.spec() == TRAIN["with"] | {"dataset": "flights@1"}


def test_a_deployment_is_told_one_model_or_several() -> None:
    one, many = inputs_of("deploy", DEPLOY["with"]), [{"model": "a@1", "weight": 10}, {"model": "a@2", "weight": 90}]
    several = inputs_of("deploy", {"deployment": "x", "models": many})
    assert isinstance(one, Deploy)
    assert isinstance(several, Deploy)
    assert one.body() == {"model": "delays@champion"}
    assert several.body() == {"models": many}


def test_gates_are_looked_into_only_where_they_are_lists() -> None:
    document = pipeline_of({"all": ["true"]}, a=GATE | {"needs": [], "with": {"require": "${{ parameters.all }}"}})
    definition, places = check(Document(document))
    assert places == []
    assert definition is not None
    assert definition.expressions == []
