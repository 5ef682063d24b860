"""Rules of sharing: amounts, periods, who makes way for whom, and how it is said."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from trainer.domain.jobs import Reason, Why
from trainer.domain.leased import AttemptPhase, Ending, made_way
from trainer.domain.resources import Amount, QuantityInvalid, Resources, bytes_of
from trainer.domain.sharing import (
    Live,
    Period,
    Quota,
    Standing,
    left_of,
    period_of,
    victims_for_quota,
    victims_on_a_host,
    why_waiting,
)

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512Mi", 512 << 20), ("2Gi", 2 * GIB), ("1500M", 1_500_000_000), ("3K", 3000), ("1Ti", 1 << 40)],
)
def test_memory_is_written_as_in_kubernetes(text: str, size: int) -> None:
    assert bytes_of(text, pointer="#/memory") == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5Gi", "1 Gi", "1gi", "1Ei", "Gi", "9999999Ti"])
def test_what_is_no_amount_of_memory_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(QuantityInvalid) as caught:
        bytes_of(text, pointer="#/memory")
    assert caught.value.errors[0]["pointer"] == "#/memory"


def test_amounts_add_up() -> None:
    some = Amount(1500, GIB, 1)
    assert some + some == some * 2 == Amount(3000, 2 * GIB, 2)
    assert some + some - some == some
    assert (some * 2).covers(some)
    assert not some.covers(Amount(1, 0, 2))
    assert some.to_json() == {"cpu": 1.5, "memory": GIB, "gpu": 1}
    assert Amount(2000).to_json()["cpu"] == 2


def test_what_a_job_needs_is_read_back_as_it_was_written() -> None:
    asked = Resources(cpu_millis=250, memory_bytes=None, gpus=2)
    assert Resources.from_json(asked.to_json()) == asked
    assert Resources.from_json({}) == Resources()
    assert asked.amount == Amount(250, 4 * GIB, 2)


@pytest.mark.parametrize(
    ("now", "period", "first", "last"),
    [
        ("2026-11-25T14:30", Period.DAY, "2026-11-25", "2026-11-26"),
        ("2026-11-25T14:30", Period.WEEK, "2026-11-23", "2026-11-30"),
        ("2026-11-25T14:30", Period.MONTH, "2026-11-01", "2026-12-01"),
        ("2026-12-31T23:59", Period.MONTH, "2026-12-01", "2027-01-01"),
        ("2027-01-01T00:00", Period.WEEK, "2026-12-28", "2027-01-04"),
    ],
)
def test_a_budget_is_of_a_day_a_week_or_a_month(now: str, period: Period, first: str, last: str) -> None:
    since, until = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (first, last))
    assert period_of(datetime.fromisoformat(now).replace(tzinfo=UTC), period) == (since, until)


def live(host: str = "h1", priority: int = 0, cpu: int = 1000, **given: Any) -> Live:
    return Live(project="blue", id=uuid.uuid4(), host=host, priority=priority, begun=True, **_amount(cpu, **given))


def _amount(cpu: int, memory: int = GIB, gpus: int = 0) -> dict[str, Amount]:
    return {"amount": Amount(cpu, memory, gpus)}


def test_those_make_way_that_are_needed_and_the_least_important_first() -> None:
    lower = [live(priority=-3), live(priority=-2, cpu=3000), live(priority=-1)]
    assert victims_for_quota({"cpu_millis": 500}, lower) == lower[:1]
    assert victims_for_quota({"cpu_millis": 2000}, lower) == [lower[1]], "without the first one, who was not enough"
    assert victims_for_quota({"cpu_millis": 4500}, lower) == lower
    assert victims_for_quota({"cpu_millis": 5001}, lower) == [], "nobody is stopped for nothing"
    assert victims_for_quota({"cpu_millis": 100, "gpus": 1}, lower) == []
    assert victims_for_quota({"jobs": 2}, lower) == lower[:2]
    assert victims_for_quota({}, lower) == []
    assert left_of({"jobs": 2, "cpu_millis": 500}, lower[:1]) == {"jobs": 1, "cpu_millis": -500}


def test_what_makes_way_on_a_host_makes_room_on_that_host() -> None:
    asked = Amount(2000, GIB, 0)
    alone, one, other = live("h1"), live("h2", -1), live("h2", -1)
    assert victims_on_a_host(asked, [one, alone, other]) == [one, other]
    assert victims_on_a_host(asked, [one, alone]) == []
    assert victims_on_a_host(asked, []) == []
    large = live("h3", -2, cpu=4000)
    assert victims_on_a_host(asked, [large, one, other]) == [large], "the least important of all"
    assert victims_on_a_host(Amount(1, 1, 1), [large]) == []


def test_an_attempt_that_succeeded_before_it_could_make_way_has_succeeded() -> None:
    assert made_way(Ending(AttemptPhase.SUCCEEDED)) == Ending(AttemptPhase.SUCCEEDED)
    assert made_way(Ending(AttemptPhase.FAILED, Why(Reason.CRASHED))).phase is AttemptPhase.STOPPED


def test_why_a_job_waits_is_said_in_numbers() -> None:
    quota = Quota(cpu_millis=4000, memory_bytes=8 * GIB, gpus=0, jobs=5)
    standing = Standing(project="blue", quota=quota, used=Amount(3500, 8 * GIB, 0), jobs=2)
    why = why_waiting(standing, Amount(1000, GIB, 0), 0)
    assert why.reason is Reason.WAITING_FOR_QUOTA
    assert why.message == (
        "The project's quota is taken: 3.5 cpu of 4 cpu in use, 1 cpu asked for, "
        "8 GiB of memory of 8 GiB of memory in use, 1 GiB of memory asked for."
    )
    never = why_waiting(standing, Amount(1000, GIB, 1), 3)
    assert never.reason is Reason.QUOTA_EXCEEDED
    assert "1 gpu of 0 gpu" in never.message
