"""`${{ … }}` in the `with` of a step: a parameter, or what an earlier step said. Never an expression.

    ${{ parameters.upload }}                    ${{ steps.ingest.outputs.reference }}
    ${{ steps.train.outputs.metrics.roc_auc }}

A string that is one reference and nothing else becomes the value, whatever its type; in a longer one it becomes text.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kit import errors

OPENING = "${{"
# Bounded, so that a megabyte of openings is read in one pass.
_REFERENCE = re.compile(r"\$\{\{([^{}]{0,300})\}\}")
_PATH = re.compile(
    r"\s*(?:parameters\.(?P<parameter>\w+)|steps\.(?P<step>[a-z0-9][a-z0-9_-]*)\.outputs)(?P<rest>(?:\.[\w-]+)*)\s*",
    re.ASCII,
)


class ReferenceMissing(errors.Invalid): ...


@dataclass(frozen=True)
class Reference:
    """What a `${{ … }}` names."""

    parameter: str | None
    step: str | None
    path: tuple[str, ...]
    """The members below the parameter, or below the step's outputs."""

    def __str__(self) -> str:
        start = f"parameters.{self.parameter}" if self.parameter else f"steps.{self.step}.outputs"
        return ".".join([start, *self.path])


@dataclass(frozen=True)
class Unreadable:
    """A `${{ … }}` that names nothing."""

    text: str


def is_reference(value: object) -> bool:
    """Whether a value is known only when the step begins."""
    return isinstance(value, str) and OPENING in value


def references_in(text: str) -> list[Reference | Unreadable]:
    """Every `${{ … }}` of a string, in order."""
    found: list[Reference | Unreadable] = [_reference(match[1]) for match in _REFERENCE.finditer(text)]
    if OPENING in _REFERENCE.sub("", text):
        found.append(Unreadable(text[text.rindex(OPENING) :][:100]))
    return found


def resolve(value: Any, parameters: Mapping[str, Any], outputs: Mapping[str, Mapping[str, Any]]) -> Any:
    """The value with every reference replaced.

    Raises:
        ReferenceMissing: a step did not say what is asked for.
    """
    match value:
        case str() if is_reference(value):
            return _resolve_text(value, parameters, outputs)
        case dict():
            return {name: resolve(member, parameters, outputs) for name, member in value.items()}
        case list():
            return [resolve(item, parameters, outputs) for item in value]
        case _:
            return value


def _resolve_text(text: str, parameters: Mapping[str, Any], outputs: Mapping[str, Mapping[str, Any]]) -> Any:
    def value_of(match: re.Match[str]) -> Any:
        reference = _reference(match[1])
        if isinstance(reference, Unreadable):  # the validator has refused it
            raise ReferenceMissing(f"{reference.text} names nothing.")
        return _look_up(reference, parameters, outputs)

    # Not fullmatch: that would take the text between two references for a part of one.
    first = _REFERENCE.match(text)
    if first is not None and first.end() == len(text):
        return value_of(first)
    return _REFERENCE.sub(lambda match: _text_of(value_of(match)), text)


def _look_up(reference: Reference, parameters: Mapping[str, Any], outputs: Mapping[str, Mapping[str, Any]]) -> Any:
    value: Any = parameters if reference.parameter else outputs.get(reference.step or "")
    for name in ([reference.parameter] if reference.parameter else []) + list(reference.path):
        if not isinstance(value, Mapping) or name not in value:
            raise ReferenceMissing(f"There is no {reference}.")
        value = value[name]
    if value is None and reference.step and not reference.path:
        raise ReferenceMissing(f"There is no {reference}.")
    return value


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _reference(text: str) -> Reference | Unreadable:
    found = _PATH.fullmatch(text)
    if found is None:
        return Unreadable(f"{OPENING}{text[:100]}}}}}")
    path = tuple(found["rest"].split(".")[1:])
    return Reference(found["parameter"], found["step"], path)
