"""What the runner and the program in a job send: when, how loud, what. Shared by both kinds of routes."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from trainer.domain.reports import Line, Point

MAX_BATCH = 1000
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LineIn(_In):
    number: Number
    at: AwareDatetime
    level: Annotated[str, StringConstraints(max_length=20)]
    message: Annotated[str, StringConstraints(max_length=1 << 16)]

    def line(self) -> Line:
        return Line(number=self.number, at=self.at, level=self.level, message=self.message)


class LinesIn(_In):
    entries: Annotated[list[LineIn], Field(max_length=MAX_BATCH)]


class PointIn(_In):
    number: Number
    at: AwareDatetime
    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    value: Annotated[float, Field(allow_inf_nan=False)]
    step: Annotated[int, Field(ge=0, le=2**62)] = 0

    def point(self) -> Point:
        return Point(number=self.number, at=self.at, name=self.name, value=self.value, step=self.step)


class PointsIn(_In):
    points: Annotated[list[PointIn], Field(max_length=MAX_BATCH)]


class ProgressIn(_In):
    stage: Annotated[str, StringConstraints(max_length=100)]
    fraction: Annotated[float, Field(ge=0, le=1)] | None = None


class BeatIn(_In):
    progress: ProgressIn


class BeatOut(BaseModel):
    stop: bool
    """The attempt is to end."""


class FencedIn(_In):
    fence: int
    """Of the lease in whose name this is said."""


class RunnerLinesIn(FencedIn, LinesIn): ...


class FinishIn(FencedIn):
    exit_code: int | None
    """None when nobody saw the end; below zero, the signal."""
    result: dict[str, Any] | None
    """`result.json`, if there is a whole one."""
    failure: "FailureIn | None" = None
    """What kept the attempt from an end of its own."""


class FailureIn(_In):
    reason: Literal["inputs-unavailable", "out-of-memory", "crashed", "platform-error"]
    message: Annotated[str, StringConstraints(max_length=2000)]
    hint: Annotated[str, StringConstraints(max_length=2000)] = ""
