"""A pipeline: steps that need each other. The validator names every mistake with its place."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from kit import errors
from pipelines.domain import graphs
from pipelines.domain.documents import Document, Place, pointer_of, texts_of
from pipelines.domain.expressions import LONGEST, names_in
from pipelines.domain.kinds import KINDS, TIMEOUTS, mistakes_in
from pipelines.domain.references import Unreadable, references_in

MAX_STEPS = 10_000
MAX_ERRORS = 100
RETRIES = 2
STEP_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_SPAN = re.compile(r"([1-9][0-9]{0,6})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PARAMETER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class InvalidPipeline(errors.Invalid): ...


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StepIn(_In):
    kind: str
    needs: Annotated[list[str], Field(max_length=MAX_STEPS)] = []
    with_: Annotated[dict[str, Any], Field(alias="with")] = {}
    when: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)] | None = None
    retries: Annotated[int, Field(ge=0, le=10)] = RETRIES
    timeout: str | None = None
    if_skipped: Literal["skip", "run"] = "skip"


class DefinitionIn(_In):
    """What a definition looks like."""

    description: Annotated[str, StringConstraints(max_length=4096)] = ""
    parameters: dict[str, Any] = {}
    steps: Annotated[dict[str, StepIn], Field(min_length=1, max_length=MAX_STEPS)]


@dataclass(frozen=True)
class StepSpec:
    """One step, as it is written."""

    name: str
    kind: str
    needs: tuple[str, ...] = ()
    with_: Mapping[str, Any] = field(default_factory=dict)
    when: str | None = None
    retries: int = RETRIES
    timeout: timedelta = timedelta(hours=1)
    if_skipped: Literal["skip", "run"] = "skip"
    """What becomes of it when a step that it needs was skipped by that one's own condition."""


@dataclass(frozen=True)
class Expression:
    """A CEL expression of a definition, and where it stands."""

    pointer: str
    text: str


@dataclass(frozen=True)
class Definition:
    """A definition without mistakes, but for expressions that do not compile."""

    document: Mapping[str, Any]
    parameters: Mapping[str, Any]
    steps: Mapping[str, StepSpec]
    expressions: Sequence[Expression]


def definition_of(document: Mapping[str, Any]) -> Definition:
    """A definition that was checked before: as rows have it."""
    given = DefinitionIn.model_validate(document)
    steps = {name: _step(name, step) for name, step in given.steps.items()}
    return Definition(document, given.parameters, steps, _expressions(given))


def check(document: Document) -> tuple[Definition | None, list[Place]]:
    """The definition, or all its mistakes. Expressions are checked for what they name; who compiles them adds the rest.

    There is a definition beside mistakes when its shape is right, so that its expressions can be compiled too.
    """
    try:
        given = DefinitionIn.model_validate(document.value)
    except ValidationError as exc:
        return None, _of_pydantic(document, exc)
    places = [*_names(given), *_steps(given), *_needs(given), *_references(given)]
    return definition_of(document.value), [document.place(pointer, detail) for pointer, detail in places[:MAX_ERRORS]]


def span_of(text: str) -> timedelta | None:
    """`30s`, `10m`, `2h`, `1d`."""
    found = _SPAN.fullmatch(text)
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]]) if found else None


def refusal(places: Sequence[errors.Place]) -> InvalidPipeline:
    """The problem that says all mistakes."""
    count = f"{len(places)} mistake{'s' if len(places) != 1 else ''}"
    first = f"{places[0]['pointer']}: {places[0]['detail']}"
    return InvalidPipeline(f"The pipeline has {count}: {first}"[:1000], errors=places)


def _step(name: str, given: StepIn) -> StepSpec:
    timeout = TIMEOUTS.get(given.kind) if given.timeout is None else span_of(given.timeout)
    return StepSpec(
        name=name,
        kind=given.kind,
        needs=tuple(given.needs),
        with_=given.with_,
        when=given.when,
        retries=given.retries,
        timeout=timeout or timedelta(hours=1),
        if_skipped=given.if_skipped,
    )


def _of_pydantic(document: Document, exc: ValidationError) -> list[Place]:
    found = exc.errors(include_url=False, include_context=False, include_input=False)
    return [document.place(pointer_of(*error["loc"]), error["msg"]) for error in found[:MAX_ERRORS]]


_Found = list[tuple[str, str]]


def _names(given: DefinitionIn) -> _Found:
    found: _Found = []
    for name in given.parameters:
        if not PARAMETER_NAME.fullmatch(name):
            found.append((pointer_of("parameters", name), "a parameter's name is a word: letters, digits and _"))
    for name in given.steps:
        if not STEP_NAME.fullmatch(name):
            found.append((pointer_of("steps", name), "a step's name has 1 to 63 characters a-z, 0-9, '_' and '-'"))
    return found


def _steps(given: DefinitionIn) -> _Found:
    """Kinds, the `with` of each, and time spans."""
    found: _Found = []
    for name, step in given.steps.items():
        here = ("steps", name)
        if step.kind not in KINDS:
            known = ", ".join(KINDS)
            found.append((pointer_of(*here, "kind"), f"there is no kind {step.kind[:100]!r}; there are {known}"))
        else:
            mistakes = mistakes_in(step.kind, step.with_)
            found += [(pointer_of(*here, "with", *path), message) for path, message in mistakes]
        if step.timeout is not None and span_of(step.timeout) is None:
            found.append((pointer_of(*here, "timeout"), "must be a number and a unit, such as 30s, 10m, 2h or 1d"))
    return found


def _needs(given: DefinitionIn) -> _Found:
    found: _Found = []
    for name, step in given.steps.items():
        named: set[str] = set()
        for index, need in enumerate(step.needs):
            pointer = pointer_of("steps", name, "needs", index)
            if need not in given.steps:
                found.append((pointer, f"there is no step {need[:100]!r}"))
            elif need in named:
                found.append((pointer, f"{need!r} is named twice"))
            named.add(need)
    for path in graphs.cycles_in({name: step.needs for name, step in given.steps.items()}):
        detail = f"the steps need each other in a circle: {' → '.join(path)}"
        found.append((pointer_of("steps", path[0], "needs"), detail))
    return found


def _references(given: DefinitionIn) -> _Found:
    """What `with`, `when` and gates speak of: parameters that exist, and steps that are done by then."""
    found: _Found = []
    before = graphs.ancestors_in({name: step.needs for name, step in given.steps.items()})
    for name, step in given.steps.items():

        def judge(pointer: str, steps: set[str], parameters: set[str], name: str = name) -> None:
            for parameter in sorted(parameters - given.parameters.keys()):
                found.append((pointer, f"there is no parameter {parameter[:100]!r}"))
            for other in sorted(steps):
                if other not in given.steps:
                    found.append((pointer, f"there is no step {other[:100]!r}"))
                elif not before.is_before(other, name):
                    found.append((pointer, f"{other!r} is not among the steps that {name!r} needs"))

        for path, text in texts_of(step.with_, "steps", name, "with"):
            for reference in references_in(text):
                if isinstance(reference, Unreadable):
                    detail = f"{reference.text} names nothing: say parameters.NAME or steps.NAME.outputs.MEMBER"
                    found.append((pointer_of(*path), detail))
                else:
                    steps = {reference.step} if reference.step else set()
                    judge(pointer_of(*path), steps, {reference.parameter} if reference.parameter else set())
        for expression in _expressions_of(name, step):
            judge(expression.pointer, *names_in(expression.text))
    return found


def _expressions(given: DefinitionIn) -> list[Expression]:
    return [expression for name, step in given.steps.items() for expression in _expressions_of(name, step)]


def _expressions_of(name: str, step: StepIn) -> list[Expression]:
    found = [] if step.when is None else [Expression(pointer_of("steps", name, "when"), step.when)]
    required = step.with_.get("require") if step.kind == "gate" else None
    if isinstance(required, list):
        at = ("steps", name, "with", "require")
        found += [Expression(pointer_of(*at, i), text) for i, text in enumerate(required) if isinstance(text, str)]
    return found
