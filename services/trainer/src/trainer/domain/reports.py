"""What a job says while it works: lines of its log, and points of its metrics."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

MAX_LOG_BYTES = 64 << 20
"""Of one attempt. What comes after that is not kept; the last line says so."""
FULL = "The log is full: what follows is not kept."
JOB, RUNNER = "job", "runner"
"""Who reports: the program in the job, or the runner about it."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a job's log. `number` counts within the attempt and its source."""

    number: int
    at: datetime
    level: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value of a metric at a step."""

    number: int
    at: datetime
    name: str
    value: float
    step: int


Report = TypeVar("Report", Line, Point)


@dataclass(frozen=True)
class Kept(Generic[Report]):
    """A report as it was stored: `key` grows, and tells where a reader stopped."""

    key: int
    attempt: int
    source: str
    report: Report
