"""Who is refused from the head of a request alone: where a model has a queue, and where the loop is the queue."""

import asyncio
import json
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from targets import target
from test_lanes import Model, asked

from kit.callers import Caller, Role
from kit.testing import eventually
from serving.api import hurry
from serving.api.inference import error_of
from serving.domain.desired import Desired
from serving.replica.lanes import Lane, Overloaded
from serving.replica.pace import Pace
from serving.replica.table import Answering, Live, Table

ADA = Caller("demo", Role.VIEWER, "ada", "gateway")


class Resident:
    """A model that is asked in a lane, or at once."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace
        self.is_lost = False

    def is_quick(self, rows: int) -> bool:
        return self.pace is not None


def refused(one: Answering | tuple[Answering, ...] | None, *, version: str | None = None, wait: bytes = b"") -> Any:
    table, found = Table(), one if isinstance(one, tuple) else (one,) if one else ()
    if found:
        table.put(Live(Desired("demo", "late", uuid.uuid4(), 1, (target(),)), found))
    scope = {
        "headers": [(b"x-request-timeout", wait)] if wait else [],
        "state": {"parts": SimpleNamespace(table=table)},
    }
    return hurry.refuses(scope, ADA, {"name": "late"} | ({"version": version} if version else {}))


def answering(lane: Lane | None, pace: Pace | None = None, **of: Any) -> Answering:
    resident: Any = Resident(pace)
    return Answering(target(**of), resident, lane=lane)


@pytest.fixture
async def full() -> Any:
    """A queue with as many in it as may be."""
    model = Model()
    lane = Lane(model.run, waiting=1, patience=60)
    tasks = [asyncio.create_task(asked(lane, 1))]
    await eventually(lambda: model.batches == [1])
    tasks.append(asyncio.create_task(asked(lane, 1)))
    await eventually(lambda: lane.waiting == 1)
    yield lane
    model.go_on.set()
    await asyncio.gather(*tasks)


async def test_behind_a_full_queue_a_request_is_refused_and_counted(full: Lane) -> None:
    one = answering(full)
    for version in (None, "1"):
        error = refused(one, version=version)
        assert isinstance(error, Overloaded)
        assert error.detail == "1 requests wait for this model."
    assert one.tally.failed == 2


async def test_who_is_not_sure_to_be_refused_is_read(full: Lane) -> None:
    assert refused(None) is None  # nobody of that name: the long way says what that means
    assert refused(answering(full), version="9") is None
    assert refused((answering(full), answering(full, version=2))) is None  # one of them may have room
    assert refused(answering(full), wait=b"soon") is None  # no time at all: that is to be said
    assert refused(answering(None)) is None
    assert refused(answering(Lane(Model().run, waiting=0))) is None


async def test_a_deadline_that_cannot_be_met_is_refused_before_anything_waits_for_it() -> None:
    model = Model()
    lane = Lane(model.run, waiting=100, patience=60)
    task = asyncio.create_task(asked(lane, 1))
    await eventually(lambda: model.batches == [1])
    assert refused(answering(lane), wait=b"60") is None
    await eventually(lambda: isinstance(refused(answering(lane), wait=b"0.001"), Overloaded))
    model.go_on.set()
    await task


async def test_where_the_loop_is_the_queue_it_is_the_loop_that_is_full() -> None:
    pace, lane = Pace(patience=0.5), Lane(Model().run, waiting=1)
    assert refused(answering(lane, pace)) is None
    pace.each = 1.0
    pace._queue.append(asyncio.get_running_loop().create_future())
    assert isinstance(refused(answering(lane, pace)), Overloaded)


def test_a_refusal_is_said_as_the_route_says_its_errors() -> None:
    status, headers, body = hurry.shown(error_of)(Overloaded("3 requests wait."), "an-id")
    assert (status, headers["retry-after"], json.loads(body)) == (503, "1", {"error": "3 requests wait."})
