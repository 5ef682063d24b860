"""What a parameter of an estimator may be: small rules over JSON values that say what they want."""

from dataclasses import dataclass
from math import prod
from typing import Any


@dataclass(frozen=True)
class Whole:
    """An integer between two bounds, both included."""

    low: int
    high: int

    def takes(self, value: Any) -> bool:
        """Whether the value is one."""
        return type(value) is int and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"an integer from {self.low} to {self.high}"


@dataclass(frozen=True)
class Real:
    """A number between two bounds; the lower one is included only when `closed`."""

    low: float
    high: float
    closed: bool = True

    def takes(self, value: Any) -> bool:
        """Whether the value is one."""
        if type(value) not in (int, float) or not value <= self.high:
            return False
        return bool(value >= self.low if self.closed else value > self.low)

    def __str__(self) -> str:
        return f"a number {'from' if self.closed else 'above'} {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Fraction(Real):
    """As Real, but written with a point: where 1 counts rows and 1.0 is all of them."""

    def takes(self, value: Any) -> bool:
        """Whether the value is one."""
        return type(value) is float and super().takes(value)

    def __str__(self) -> str:
        return f"a fraction {'from' if self.closed else 'above'} {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """One of a few values; true is not 1."""

    values: tuple[str | bool | None, ...]

    def takes(self, value: Any) -> bool:
        """Whether the value is one."""
        return any(type(value) is type(known) and value == known for known in self.values)

    def __str__(self) -> str:
        return ", ".join("null" if value is None else str(value).lower() for value in self.values)


@dataclass(frozen=True)
class Several:
    """An array of one to ten of something."""

    of: "Whole | Real | Nested"

    def takes(self, value: Any) -> bool:
        """Whether the value is one."""
        return type(value) is list and 0 < len(value) <= 10 and all(map(self.of.takes, value))

    def __str__(self) -> str:
        return f"an array of {self.of}"


@dataclass(frozen=True)
class Columns:
    """An array of the names of features."""

    def takes(self, value: Any) -> bool:
        """Whether the value is one."""
        return type(value) is list and all(type(name) is str for name in value)

    def __str__(self) -> str:
        return "an array of the names of text features"


@dataclass(frozen=True)
class Nested:
    """Another estimator: `{"class": path, "parameters": {name: value}}`. What is in it is for its own rules to say."""

    def takes(self, value: Any) -> bool:
        """Whether the value looks like one."""
        return (
            type(value) is dict
            and {"class"} <= set(value) <= {"class", "parameters"}
            and type(value["class"]) is str
            and type(value.get("parameters", {})) is dict
        )

    def __str__(self) -> str:
        return 'an estimator such as {"class": "sklearn.tree.DecisionTreeClassifier", "parameters": {"max_depth": 3}}'


@dataclass(frozen=True)
class Grid:
    """What a search tries: one to twenty values for each of some parameters, at most 200 combinations."""

    def takes(self, value: Any) -> bool:
        """Whether the value is one; the values themselves are for the rules of the estimator that is searched."""
        if type(value) is not dict or not value:
            return False
        if not all(type(values) is list and 0 < len(values) <= 20 for values in value.values()):
            return False
        return prod(map(len, value.values())) <= 200

    def __str__(self) -> str:
        return "an object of one to twenty values for each parameter that is searched, 200 combinations at most"


Rule = Whole | Real | Choice | Several | Columns | Nested | Grid
Rules = tuple[Rule, ...]


def one_of(*values: str | bool | None) -> Choice:
    """A choice."""
    return Choice(values)


def mistake(rules: Rules, value: Any) -> str | None:
    """What is wrong with a value, or None: it must fit one of the rules."""
    if any(rule.takes(value) for rule in rules):
        return None
    return f"must be {' or '.join(map(str, rules))}"
