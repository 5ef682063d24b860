"""The checks of the settings, in SQL over typed columns."""

from collections.abc import Iterator
from dataclasses import dataclass

from ingest.domain.reports import Refused
from ingest.domain.schema import Column, ColumnType
from ingest.domain.settings import (
    ColumnCheck,
    DatasetSettings,
    Enum,
    Expression,
    HashSplit,
    NotNull,
    Policy,
    Range,
    Regex,
    Scalar,
    Unique,
)
from ingest.parser.casts import SQL_TYPES
from ingest.parser.session import literal, quoted


@dataclass(frozen=True)
class Rule:
    """Rows for which `broken` is true are refused."""

    broken: str
    column: str | None
    reason: str
    detail: str


def row_rules(settings: DatasetSettings, columns: list[Column]) -> Iterator[Rule]:
    """What each row must fulfil by itself. Cells that policy `coerce` has cured already are not asked again."""
    types = {column.name: column.type for column in columns}
    for name in settings.key:
        yield Rule(f"{quoted(name)} IS NULL", name, "not_null", "The key has no value.")
    if not isinstance(settings.split, HashSplit):
        yield Rule(
            f"{quoted(settings.split.time)} IS NULL", settings.split.time, "split", "The split's time is missing."
        )
    for check in settings.checks:
        match check:
            case NotNull():
                yield Rule(f"{quoted(check.column)} IS NULL", check.column, "not_null", "The value is missing.")
            case Expression():
                yield Rule(f"({check.sql}) IS FALSE", None, "expression", f"Not so: {check.sql[:150]}")
            case Unique():
                pass
            case _ if settings.policy is not Policy.COERCE:
                valid, detail = _cell_rule(check, types[check.column])
                value = quoted(check.column)
                yield Rule(f"NOT ({valid.format(value)})", check.column, check.check, detail)


def cell_rules(settings: DatasetSettings, columns: list[Column]) -> dict[str, str]:
    """For each column with range, regex or enum: SQL over `{0}` that acceptable values fulfil."""
    types = {column.name: column.type for column in columns}
    found: dict[str, list[str]] = {}
    for check in settings.checks:
        if isinstance(check, Range | Regex | Enum):
            found.setdefault(check.column, []).append(_cell_rule(check, types[check.column])[0])
    return {name: " AND ".join(f"({valid})" for valid in rules) for name, rules in found.items()}


def unique_columns(settings: DatasetSettings) -> list[tuple[list[str], str, str]]:
    """(columns, reason, detail) of everything that may not come twice, the key first."""
    found = [
        ([check.column], "unique", "The value came before.") for check in settings.checks if isinstance(check, Unique)
    ]
    return [(settings.key, "duplicate_key", "The key came before."), *found] if settings.key else found


def _cell_rule(check: ColumnCheck, of: ColumnType) -> tuple[str, str]:
    match check:
        case Range(min=low, max=high):
            ends = [("{0} >= ", low), ("{0} <= ", high)]
            valid = " AND ".join(f"{op}{_value(end, check, of)}" for op, end in ends if end is not None)
            return valid, f"The value is not between {_shown(low)} and {_shown(high)}."
        case Regex(pattern=pattern):
            _text_only(check, of)
            return f"regexp_full_match({{0}}, {_braces(literal(pattern))})", "The value does not match the pattern."
        case Enum(values=values):
            return (
                f"{{0}} IN ({', '.join(_value(value, check, of) for value in values)})",
                "The value is not one of those allowed.",
            )
        case _:  # pragma: no cover - the others speak of more than a cell
            raise AssertionError(check)


def _value(value: Scalar, check: Range | Enum, of: ColumnType) -> str:
    fits = {
        ColumnType.BOOLEAN: isinstance(value, bool),
        ColumnType.INTEGER: isinstance(value, int | float) and not isinstance(value, bool),
        ColumnType.NUMBER: isinstance(value, int | float) and not isinstance(value, bool),
    }.get(of, isinstance(value, str))
    if not fits:
        raise Refused(
            "bad-check", f"{_shown(value)} of {check.check} on {check.column[:100]!r} is not of type {of.value}."
        )
    if of is ColumnType.STRING:
        return _braces(literal(str(value)))
    if of in (ColumnType.INTEGER, ColumnType.NUMBER):
        return repr(value)
    return f"{_braces(literal(str(value)))}::{SQL_TYPES[of]}"


def _text_only(check: Regex, of: ColumnType) -> None:
    if of is not ColumnType.STRING:
        raise Refused("bad-check", f"The regex on {check.column[:100]!r} needs a string; the column is {of.value}.")


def _braces(sql: str) -> str:
    # The rules are templates over the value.
    return sql.replace("{", "{{").replace("}", "}}")


def _shown(value: Scalar | None) -> str:
    return "any" if value is None else repr(value)[:60]
