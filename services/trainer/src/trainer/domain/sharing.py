"""How projects share what there is: what a project may have at one time, who goes first, and who makes way."""

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from kit import errors
from trainer.domain.jobs import Reason, Why
from trainer.domain.resources import Amount, cores

LOWEST, HIGHEST = -100, 100
"""Priorities; who says nothing has 0."""
MAX_JOBS = 1_000_000


class QuotaExceeded(errors.Conflict): ...


class PriorityTooHigh(errors.Invalid): ...


class QuotaNotFound(errors.NotFound): ...


class OperatorOnly(errors.Forbidden): ...


class Period(StrEnum):
    """For how long a budget is; each begins at midnight UTC, a week on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What a project may have; None: without limit."""

    cpu_millis: int | None = None
    memory_bytes: int | None = None
    gpus: int | None = None
    jobs: int | None = None
    """Attempts at one time."""
    priority: int | None = None
    """The highest that its jobs may have."""
    core_hours: float | None = None
    """To be spent in a period. What runs when they are spent runs to its end; nothing more is begun."""
    period: Period = Period.MONTH


LIMITS = ("cpu_millis", "memory_bytes", "gpus", "jobs")
NO_LIMITS = Quota()
NOTHING = Amount()
WORDS = {"cpu_millis": "cpu", "memory_bytes": "memory", "gpus": "gpu", "jobs": "jobs"}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A quota, and what is taken of it."""

    project: str
    quota: Quota = NO_LIMITS
    used: Amount = NOTHING
    jobs: int = 0
    core_seconds: float = 0
    """Spent in this period, with what runs now."""
    since: datetime | None = None
    """When the period began."""
    until: datetime | None = None

    @property
    def is_spent(self) -> bool:
        """Whether the budget is."""
        return self.quota.core_hours is not None and self.core_seconds >= self.quota.core_hours * 3600

    def lacks(self, asked: Amount) -> Mapping[str, int]:
        """How much more would have to be free, by the limit's name; empty: it fits."""
        return _beyond(self.quota, asked, _all(self.used, self.jobs))


@dataclass(frozen=True)
class Took:
    """What attempts have taken, by a day or an author."""

    name: str
    core_seconds: float
    gib_seconds: float
    gpu_seconds: float
    attempts: int
    """That have ended."""


def _all(amount: Amount, jobs: int) -> Mapping[str, int]:
    return asdict(amount) | {"jobs": jobs}


def _beyond(quota: Quota, asked: Amount, used: Mapping[str, int]) -> Mapping[str, int]:
    wanted = _all(asked, 1)
    limits = {name: getattr(quota, name) for name in LIMITS}
    return {
        name: used[name] + wanted[name] - limit
        for name, limit in limits.items()
        # Who asks for nothing of a kind takes nothing of it, however much others had before the limit was lowered.
        if limit is not None and wanted[name] and used[name] + wanted[name] > limit
    }


def refuse_impossible(quota: Quota, asked: Amount, priority: int) -> None:
    """
    Raises:
        QuotaExceeded: it would not fit if the project had nothing else.
        PriorityTooHigh: its project's jobs may not go so far ahead.
    """
    if beyond := never_fits(quota, asked):
        raise QuotaExceeded(f"The job asks for more than its project's quota: {beyond}.")
    if quota.priority is not None and priority > quota.priority:
        detail = f"must be {quota.priority} at most in this project"
        raise PriorityTooHigh(
            f"The priority {priority} is too high.", errors=[{"pointer": "#/priority", "detail": detail}]
        )


def never_fits(quota: Quota, asked: Amount) -> str:
    """Why it would not fit if the project had nothing else; empty: it would."""
    beyond = _beyond(replace(quota, jobs=None), asked, _all(NOTHING, 0))  # a project of no jobs at all is put on hold
    return ", ".join(f"{_said(name, _all(asked, 1)[name])} of {_said(name, getattr(quota, name))}" for name in beyond)


def why_waiting(standing: Standing, asked: Amount, ahead: int) -> Why:
    """Why a job is not let in just now. `ahead`: jobs of its project that wait before it."""
    quota = standing.quota
    if beyond := never_fits(quota, asked):
        said = f"The job asks for more than its project's quota has become: {beyond}."
        return Why(Reason.QUOTA_EXCEEDED, said, "Cancel it, or have the quota raised; it then goes on by itself.")
    if standing.is_spent:
        spent, budget = standing.core_seconds / 3600, quota.core_hours
        until = "" if standing.until is None else f" It is renewed at {standing.until.isoformat()}."
        said = f"The project has spent {spent:.2f} of its {budget:g} core-hours of this {quota.period}.{until}"
        return Why(Reason.WAITING_FOR_BUDGET, said, "An operator can raise the budget.")
    taken = ", ".join(
        f"{_said(name, _all(standing.used, standing.jobs)[name])} of {_said(name, getattr(quota, name))} in use, "
        f"{_said(name, _all(asked, 1)[name])} asked for"
        for name in standing.lacks(asked)
    )
    before = f"{ahead} job(s) of the project wait before it." if ahead else ""
    said = f"The project's quota is taken: {taken}." if taken else "It waits for its turn."
    return Why(Reason.WAITING_FOR_QUOTA, f"{said} {before}".strip(), "It starts when other jobs end; nothing is lost.")


@dataclass(frozen=True)
class Live:
    """An attempt that could make way."""

    project: str
    id: uuid.UUID
    host: str | None
    priority: int
    amount: Amount
    begun: bool


def victims_for_quota(lacks: Mapping[str, int], lower: Collection[Live]) -> list[Live]:
    """Which of the attempts (least important and youngest first) make way, so that all that lacks becomes free.

    None, when even all of them would not be enough: nobody is stopped for nothing.
    """
    return _needed(lower, lambda chosen: all(lack <= 0 for lack in left_of(lacks, chosen).values()))


def _needed(lower: Collection[Live], suffice: Callable[[Collection[Live]], bool]) -> list[Live]:
    """The first ones that suffice, without those that turn out not to be needed, the most important looked at first."""
    chosen = list[Live]()
    for each in lower:
        if suffice(chosen):
            break
        chosen.append(each)
    if not suffice(chosen):
        return []
    for each in reversed(list(chosen)):
        if suffice(without := [other for other in chosen if other is not each]):
            chosen = without
    return chosen


def left_of(lacks: Mapping[str, int], stopping: Collection[Live]) -> Mapping[str, int]:
    """What still lacks when those have ended that are to."""
    freed = [_all(each.amount, 1) for each in stopping]
    return {name: lack - sum(each[name] for each in freed) for name, lack in lacks.items()}


def victims_on_a_host(asked: Amount, lower: Collection[Live]) -> list[Live]:
    """Which of the running attempts (least important and youngest first) make way on one host, as few as possible."""

    def suffice(chosen: Collection[Live]) -> bool:
        return bool(chosen) and sum((each.amount for each in chosen), NOTHING).covers(asked)

    hosts = dict.fromkeys(each.host for each in lower)
    each_host = [_needed([each for each in lower if each.host == host], suffice) for host in hosts]
    found = [chosen for chosen in each_host if chosen]
    return min(found, key=lambda each: (max(one.priority for one in each), len(each)), default=[])


def period_of(now: datetime, period: Period) -> tuple[datetime, datetime]:
    """When the budget's period began that `now` is in, and when it ends."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case Period.DAY:
            return day, day + timedelta(days=1)
        case Period.WEEK:
            monday = day - timedelta(days=day.weekday())
            return monday, monday + timedelta(days=7)
        case Period.MONTH:
            first = day.replace(day=1)
            return first, (first + timedelta(days=32)).replace(day=1)


def _said(name: str, value: int) -> str:
    if name == "cpu_millis":
        return f"{cores(value):g} cpu"
    return f"{value / (1 << 30):.4g} GiB of memory" if name == "memory_bytes" else f"{value} {WORDS[name]}"


def quota_of(values: Mapping[str, Any]) -> Quota:
    """Of a row's values."""
    known = {each.name: values[each.name] for each in fields(Quota)}
    return Quota(**known | {"period": Period(known["period"])})
