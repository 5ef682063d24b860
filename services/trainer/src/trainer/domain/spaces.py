"""What a sweep varies: for each parameter of a job, the values that it may have. The same on every machine."""

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from kit import errors

MAX_CHOICES = 100
MAX_PARAMETERS = 50
MAX_POINTS = 1000
"""Of a grid; and so many trials a sweep may have."""
LARGEST = 2**53
"""Beyond it, not every whole number is a float."""


@dataclass(frozen=True)
class Whole:
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int
    step: int = 1
    log: bool = False


@dataclass(frozen=True)
class Real:
    """Numbers from `low` to `high`; with a `step`, `high` is one of them only if steps lead to it."""

    low: float
    high: float
    step: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """Any JSON values, without an order."""

    choices: tuple[Any, ...]


Values = Whole | Real | Choice
Space = Mapping[str, Values]


def from_json(document: Mapping[str, Mapping[str, Any]]) -> dict[str, Values]:
    """As the wire and the row have it; it was checked before. In the order of names, which a row does not keep."""
    return {name: _values(document[name]) for name in sorted(document)}


def to_json(space: Space) -> dict[str, dict[str, Any]]:
    """As the wire and the row have it."""
    return {name: _said(values) for name, values in space.items()}


def _values(said: Mapping[str, Any]) -> Values:
    given = {name: value for name, value in said.items() if name != "type"}
    match said["type"]:
        case "int":
            return Whole(**given)
        case "float":
            return Real(**given)
        case _:
            return Choice(tuple(given["choices"]))


def _said(values: Values) -> dict[str, Any]:
    match values:
        case Whole():
            return {"type": "int", "low": values.low, "high": values.high, "step": values.step, "log": values.log}
        case Real():
            return {"type": "float", "low": values.low, "high": values.high, "step": values.step, "log": values.log}
        case Choice():
            return {"type": "categorical", "choices": list(values.choices)}


def mistakes(space: Space) -> list[errors.Place]:
    """Where the space is none."""
    if not 1 <= len(space) <= MAX_PARAMETERS:
        return [{"pointer": "#/space", "detail": f"must name 1 to {MAX_PARAMETERS} parameters"}]
    return [
        {"pointer": f"#/space/{pointer_of(name)}", "detail": said}
        for name, values in space.items()
        if (said := _mistake(values)) is not None
    ]


def pointer_of(name: str) -> str:
    """A member's name within a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _mistake(values: Values) -> str | None:
    if isinstance(values, Choice):
        known = {key_of(choice) for choice in values.choices}
        if len(known) != len(values.choices):
            return "names a choice twice"
        return None if 1 <= len(known) <= MAX_CHOICES else f"must have 1 to {MAX_CHOICES} choices"
    if not all(
        abs(bound) <= LARGEST if isinstance(values, Whole) else math.isfinite(bound) for bound in _bounds(values)
    ):
        return "must have bounds that are numbers of a usual size"
    if values.low > values.high:
        return "must have a low that is not above its high"
    if values.log and values.low <= 0:
        return "must have a low above 0 when log is set"
    if values.step is not None and not (values.step > 0 and math.isfinite(values.step)):
        return "must have a step above 0"
    return "takes a step or log, not both" if values.log and values.step not in (None, 1) else None


def _bounds(values: Whole | Real) -> tuple[float, float]:
    return values.low, values.high


def key_of(choice: Any) -> str:
    """One text for each JSON value: to Python, true is 1."""
    return json.dumps(choice, sort_keys=True)


def size_of(space: Space) -> int | None:
    """How many points a grid over the space has; None when a parameter has no steps."""
    sizes = [_size(values) for values in space.values()]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def _size(values: Values) -> int | None:
    match values:
        case Choice():
            return len(values.choices)
        case Whole(log=False):
            return (values.high - values.low) // values.step + 1
        case Real(step=float() | int()):
            return _steps(values) + 1
    return None


def _steps(values: Real) -> int:
    low, high, step = (Decimal(str(each)) for each in (values.low, values.high, values.step))
    return int((high - low) // step)


def highest(values: Whole | Real) -> Any:
    """The largest value that steps lead to."""
    if isinstance(values, Whole):
        return values.low + (values.high - values.low) // values.step * values.step
    return values.high if values.step is None else _at(values, _steps(values))


def point(space: Space, number: int) -> dict[str, Any]:
    """The grid's point of that number; the last of the parameters changes first."""
    chosen: dict[str, Any] = {}
    for name, values in reversed(list(space.items())):
        size = _size(values)
        assert size is not None
        number, index = divmod(number, size)
        chosen[name] = _at(values, index)
    return {name: chosen[name] for name in space}


def _at(values: Values, index: int) -> Any:
    match values:
        case Choice():
            return values.choices[index]
        case Whole():
            return values.low + index * values.step
        case Real():  # as they are written: three steps of 0.1 are 0.3
            return float(Decimal(str(values.low)) + index * Decimal(str(values.step)))


def sample(space: Space, seed: int, number: int) -> dict[str, Any]:
    """Any point of the space; always the same for that seed and number."""
    chance = random.Random(f"{seed}:{number}")  # noqa: S311 - no secret, but the same again everywhere
    return {name: _any(values, chance) for name, values in space.items()}


def _any(values: Values, chance: random.Random) -> Any:
    match values:
        case Choice():
            return values.choices[chance.randrange(len(values.choices))]
        case Whole(log=True):
            drawn = math.exp(chance.uniform(math.log(values.low - 0.5), math.log(values.high + 0.5)))
            return min(max(round(drawn), values.low), values.high)
        case Whole():
            return values.low + chance.randrange((values.high - values.low) // values.step + 1) * values.step
        case Real(log=True):
            drawn = math.exp(chance.uniform(math.log(values.low), math.log(values.high)))
            return min(max(drawn, values.low), values.high)
        case Real(step=None):
            return chance.uniform(values.low, values.high)
        case Real():
            return _at(values, chance.randrange(_steps(values) + 1))


def corners(space: Space) -> list[dict[str, Any]]:
    """Points that show whether a job takes such values: each parameter at each end, the others at their first."""
    first = {name: _ends(values)[0] for name, values in space.items()}
    return [first | {name: end} for name, values in space.items() for end in _ends(values)]


def _ends(values: Values) -> tuple[Any, ...]:
    return values.choices if isinstance(values, Choice) else (values.low, values.high)
