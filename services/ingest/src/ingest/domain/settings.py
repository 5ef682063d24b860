"""How a dataset's bytes become rows. A version records the settings that it used."""

import enum
import hashlib
import math
import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from ingest.domain.schema import BadColumnName, Column, ColumnType, check_names

MAX_COLUMNS = 500
MAX_CHECKS = 1000

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Scalar = bool | Integer | float | Annotated[str, StringConstraints(max_length=4096)]
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


class Policy(enum.StrEnum):
    """What happens to rows that are not acceptable."""

    QUARANTINE = "quarantine"
    """They are left out, and kept beside the version with line and reason."""
    FAIL = "fail"
    """One is enough: the version fails."""
    COERCE = "coerce"
    """A value that breaks a rule of its own cell becomes null; rows are left out only for what null cannot cure."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ColumnSpec(_Model):
    name: Name
    # Not strict: JSON has no enums.
    type: Annotated[ColumnType, Field(strict=False)]


class NotNull(_Model):
    column: Name
    check: Literal["not_null"]


class Unique(_Model):
    column: Name
    check: Literal["unique"]


class Range(_Model):
    """Both ends included. Dates and timestamps are given as strings."""

    column: Name
    check: Literal["range"]
    min: Scalar | None = None
    max: Scalar | None = None

    @model_validator(mode="after")
    def _some_end(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if any(isinstance(end, float) and not math.isfinite(end) for end in (self.min, self.max)):
            raise ValueError("min and max are finite")
        return self


class Regex(_Model):
    """The whole value matches (RE2 syntax, which never takes exponential time)."""

    column: Name
    check: Literal["regex"]
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class Enum(_Model):
    column: Name
    check: Literal["enum"]
    values: Annotated[list[Scalar], Field(min_length=1, max_length=1000)]


class Expression(_Model):
    """A row is refused when the SQL expression is false for it; null passes, as in SQL's own CHECK."""

    check: Literal["expression"]
    sql: Annotated[str, StringConstraints(min_length=1, max_length=4096)]


ColumnCheck = NotNull | Unique | Range | Regex | Enum
Check = Annotated[ColumnCheck | Expression, Field(discriminator="check")]


class HashSplit(_Model):
    """Rows with equal values in `by` are on one side, chosen by a hash (ingest.domain.splits)."""

    by: Annotated[list[Name], Field(min_length=1, max_length=64)] | None = None
    """None: the key; without a key, all columns."""
    held_out: Annotated[float, Field(ge=0, le=0.9)] = 0.2
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class TimeSplit(_Model):
    """Rows at or after `cut` are held out."""

    time: Name
    cut: str

    @field_validator("cut")
    @classmethod
    def _is_a_moment(cls, value: str) -> str:
        # The engine does not read everything that ISO 8601 calls a date.
        if not _MOMENT.fullmatch(value):
            raise ValueError("give a date or a date and time, such as 2013-11-01 or 2013-11-01T12:00:00Z")
        datetime.fromisoformat(value)
        return value


class DatasetSettings(_Model):
    columns: Annotated[list[ColumnSpec], Field(min_length=1, max_length=MAX_COLUMNS)] | None = None
    """The schema to enforce. None: inferred from all rows."""
    nulls: Annotated[list[Annotated[str, StringConstraints(max_length=64)]], Field(max_length=64)] = [""]
    """What stands for a missing value."""
    key: Annotated[list[Name], Field(max_length=64)] = []
    """The columns whose values name a row: never null, never twice."""
    split: HashSplit | TimeSplit = HashSplit()
    checks: Annotated[list[Check], Field(max_length=MAX_CHECKS)] = []
    policy: Annotated[Policy, Field(strict=False)] = Policy.QUARANTINE

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if len(set(self.key)) != len(self.key):
            raise ValueError("the key names a column twice")
        if self.columns is None:
            return self
        names = [column.name for column in self.columns]
        try:
            check_names(names, limit=MAX_COLUMNS)
        except BadColumnName as exc:
            raise ValueError(exc.detail) from None
        for name in self.named():
            if name not in names:
                raise ValueError(f"{name[:100]!r} is not one of the columns")
        return self

    def named(self) -> list[str]:
        """Every column that key, split and checks speak of."""
        split = [self.split.time] if isinstance(self.split, TimeSplit) else self.split.by or []
        return [*self.key, *split, *(check.column for check in self.checks if not isinstance(check, Expression))]

    def schema_given(self) -> list[Column] | None:
        if self.columns is None:
            return None
        return [Column(column.name, column.type) for column in self.columns]

    def document(self) -> dict[str, Any]:
        """The settings as JSON, with every default written out."""
        return self.model_dump(mode="json")


def digest_of(document: object) -> str:
    """The digest of a JSON document, whatever the order of its members."""
    return f"sha256:{hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()}"
