"""What is refused at once, what is not done any more, and what one queue may cost another."""

import asyncio

import pytest
from test_lanes import Model, arrays, asked
from worlds import LOGISTIC, trained

from kit.testing import eventually
from models.signature import Arrays, Prediction
from serving.api.deadlines import TimeoutInvalid, seconds_of, until
from serving.domain.costs import Cost
from serving.domain.limits import Limits
from serving.replica.lanes import BATCH_ROWS, DeadlineExceeded, Lane, Overloaded, Queueing, require_time
from serving.replica.residents import Here, Threads
from serving.replica.turns import Turns


def now() -> float:
    return asyncio.get_running_loop().time()


async def begun(lane: Lane, model: Model, *, queued: int = 0) -> list["asyncio.Task[list[float]]"]:
    """One request under way, and so many behind it."""
    tasks = [asyncio.create_task(asked(lane, 1))]
    await eventually(lambda: model.batches == [1])
    tasks += [asyncio.create_task(asked(lane, 1)) for _ in range(queued)]
    await eventually(lambda: lane.waiting == queued)
    return tasks


class Counting:
    """A model that takes its time, on a thread as it were."""

    def __init__(self, fixed: float, per_row: float) -> None:
        self.batches: list[int] = []
        self._cost = Cost(fixed, per_row)

    async def run(self, given: Arrays) -> Prediction:
        rows = len(given["a"])
        self.batches.append(rows)
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(self._cost.of(rows), done.set)
        await done.wait()
        return Prediction(given["a"][:, 0], given["a"].repeat(2, axis=1))


async def test_what_would_not_be_answered_in_time_is_refused_at_once() -> None:
    model = Model()
    lane = Lane(model.run, waiting=100, patience=7200, cost=Cost(0.0, 600.0))
    tasks = await begun(lane, model, queued=2)
    assert 1700 < lane.wait() <= 1800
    began = now()
    with pytest.raises(Overloaded, match=r"would take 1[78]\d\d"):
        await lane.predict(arrays(1), 1, now() + 2000)  # it would begin in time, and not be done
    assert now() - began < 1
    late = asyncio.create_task(lane.predict(arrays(1), 1, now() + 2500))
    await eventually(lambda: lane.waiting == 3)
    tasks += [asyncio.create_task(asked(lane, 1)) for _ in range(3)]
    await eventually(lambda: lane.waiting == 6)
    with pytest.raises(Overloaded) as raised:  # the patience of who says nothing
        lane.admit()
    assert raised.value.retry_after is not None
    assert raised.value.retry_after.total_seconds() == 30
    model.go_on.set()
    await asyncio.gather(*tasks, late)
    lane.admit()


async def test_who_finds_nobody_waiting_is_asked_for_whatever_is_believed_of_the_model() -> None:
    model = Model()
    model.go_on.set()
    lane = Lane(model.run, waiting=0, patience=0.001, cost=Cost(50.0, 0.0))
    assert (await lane.predict(arrays(7), 1, now() + 30)).values.tolist() == [7]
    assert lane.is_idle


async def test_a_model_that_hangs_fills_no_queue() -> None:
    model = Model()
    lane = Lane(model.run, waiting=100, patience=0.05, cost=Cost(0.001, 0.0))
    hung = await begun(lane, model)

    def is_full() -> bool:
        try:
            lane.admit()
        except Overloaded:
            return True
        return False

    await eventually(is_full)
    model.go_on.set()
    await asyncio.gather(*hung)


async def test_who_waited_for_too_long_is_told_so_and_not_asked_for() -> None:
    model = Model()
    lane = Lane(model.run, waiting=100, patience=1, cost=Cost(0.0001, 0.0))
    [first] = await begun(lane, model)
    patient = asyncio.create_task(lane.predict(arrays(2), 1, now() + 1.5))
    waits = asyncio.create_task(asked(lane, 3))
    with pytest.raises(Overloaded, match="has not come to it"):
        await waits
    with pytest.raises(DeadlineExceeded):
        await patient
    model.go_on.set()
    assert await first == [1]  # it was under way: nothing of it is thrown away
    await lane.drain()
    assert model.batches == [1]


async def test_a_deadline_also_ends_the_wait_for_what_is_under_way() -> None:
    model = Model()
    lane = Lane(model.run, waiting=100)
    with pytest.raises(DeadlineExceeded):
        await lane.predict(arrays(1), 1, now() + 0.05)
    model.go_on.set()
    await lane.drain()
    assert lane.is_idle
    with pytest.raises(DeadlineExceeded):
        require_time(now() - 1)
    require_time(now() + 60)
    require_time(None)


async def test_as_many_requests_are_worked_on_at_once_as_the_deployment_says() -> None:
    model = Model()
    lane = Queueing(100, 60).lane(model.run, Cost(0.0, 0.0), Turns(1), Limits(concurrency=2, waiting=5))
    tasks = await begun(lane, model, queued=5)
    with pytest.raises(Overloaded, match="5 requests wait"):
        lane.admit()
    model.go_on.set()
    await asyncio.gather(*tasks)
    assert model.batches == [1, 2, 2, 1]


def test_a_batch_takes_no_longer_than_its_neighbours_can_bear() -> None:
    def most(fixed: float, per_row: float) -> int:
        return Lane(Model().run, waiting=1, cost=Cost(fixed, per_row))._most_rows()

    assert most(0.0, 0.002) == 2
    assert most(0.01, 0.001) == 10
    assert most(0.002, 0.0) == BATCH_ROWS
    assert most(0.0, 5.0) == 1


async def test_a_flooded_queue_costs_its_neighbour_one_turn_at_most() -> None:
    """One worker for two lanes, one of which has much to do: whoever asks seldom is next."""
    turns, order = Turns(1), list[str]()

    def lane(name: str) -> Lane:
        async def run(given: Arrays) -> Prediction:
            order.append(name)
            return await Counting(0.002, 0.0).run(given)

        return Lane(run, waiting=1000, concurrency=1, patience=60, cost=Cost(0.0, 0.002), turns=turns)

    flooded = lane("flooded")
    crowd = [asyncio.create_task(flooded.predict(arrays(1), 1)) for _ in range(40)]
    await eventually(lambda: len(order) > 3)
    for name in ("quiet", "silent", "still"):
        before = len(order)
        await lane(name).predict(arrays(1), 1)
        # What was under way, perhaps what had its turn already, and then the neighbour.
        assert order[before:].index(name) <= 2
    await asyncio.gather(*crowd)


@pytest.mark.parametrize("said", [b"0", b"-1", b"301", b"nan", b"inf", b"1e999", b"", b"x", b"1_0", b"\xb2"])
def test_what_is_no_time_is_refused(said: bytes) -> None:
    with pytest.raises(TimeoutInvalid):
        seconds_of(said)


async def test_how_long_a_client_waits_is_read_from_its_header() -> None:
    assert (seconds_of(b"0.25"), seconds_of(b"300")) == (0.25, 300)
    assert until({"headers": [(b"accept", b"x")]}) is None
    found = until({"headers": [(b"accept", b"x"), (b"x-request-timeout", b"20")]})
    assert found is not None
    assert 19 < found - now() <= 20


async def test_what_a_late_loop_adds_is_not_the_models_cost() -> None:
    class Quick:
        signature = trained(LOGISTIC).signature

        def predict(self, given: Arrays) -> Prediction:
            return Prediction(given["a"][:, 0], None)

    threads = Threads(1, Queueing(10, 60))
    lane = Here(Quick(), Cost(0.2, 0.0), threads).lane(Limits())
    asked = asyncio.create_task(lane.predict(arrays(7), 1))
    for _ in range(3):  # until the thread has it
        await asyncio.sleep(0)
    end = now() + 0.3
    while now() < end:  # the loop has other things to do, while the thread has long answered
        pass
    assert (await asked).values.tolist() == [7]
    await lane.drain()
    assert lane._cost.of(1) < 0.1
    threads.close()
