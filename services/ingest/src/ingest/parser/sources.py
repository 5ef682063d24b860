"""What every kind of source gives to the steps that follow: rows with a number, a schema, and places."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import duckdb
import numpy as np
from numpy.typing import NDArray

from ingest.domain.schema import Column

RAW = 200
"""Characters of a rejected line that are kept."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one line."""

    line: int
    column: str | None
    reason: str
    detail: str
    raw: str


@dataclass(frozen=True)
class Place:
    """Where in the source a row is."""

    row: int
    line: int
    raw: str


@dataclass
class Located:
    """Lines that never became rows (at most as many faults as are kept), and the places of the rows asked for."""

    lost: int
    """How many lines never became rows."""
    faults: list[Fault] = field(default_factory=list)
    places: Iterable[Place] = ()


class Source(Protocol):
    """A relation of `__row` (from 1, in the order of the source) and the columns of the source."""

    @property
    def names(self) -> list[str]: ...

    def guess(self, session: duckdb.DuckDBPyConnection) -> list[Column]:
        """The schema, where none was given."""
        ...

    def may_widen(self, name: str) -> bool:
        """Whether the type of this column was only guessed from its texts."""
        ...

    def relation(self) -> str:
        """SQL to select from, anew for each reading."""
        ...

    def locate(self, session: duckdb.DuckDBPyConnection, rows: NDArray[np.int64], *, total: int, keep: int) -> Located:
        """Say what was lost in the last reading, which gave `total` rows, and where these (ascending) rows are."""
        ...
