"""The queue in front of a model."""

import asyncio

import numpy as np
import pytest

from kit import errors
from kit.testing import eventually
from models.signature import Arrays, Prediction
from serving.replica.lanes import BATCH_ROWS, QUEUED_ROWS, Lane, Overloaded


class Model:
    """It answers with what it is asked, once it is let; negative rows break it."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go_on = asyncio.Event()

    async def run(self, arrays: Arrays) -> Prediction:
        self.batches.append(len(arrays["a"]))
        await self.go_on.wait()
        if (arrays["a"] < 0).any():
            raise errors.Corrupt("broken")
        if (arrays["a"] > 1000).any():
            raise OSError("gone")
        values = arrays["a"][:, 0]
        return Prediction(values, np.stack([values, values], axis=1))


def arrays(*values: float) -> Arrays:
    return {"a": np.array(values, np.float32).reshape(-1, 1)}


async def asked(lane: Lane, *values: float) -> list[float]:
    answer = await lane.predict(arrays(*values), len(values))
    assert answer.scores is not None
    assert answer.scores[:, 0].tolist() == answer.values.tolist()
    return list(answer.values.tolist())


async def test_what_queues_while_the_model_works_is_one_batch_and_everybody_gets_his_own() -> None:
    model = Model()
    lane = Lane(model.run, waiting=100, patience=60)
    first = asyncio.create_task(asked(lane, 0))
    await eventually(lambda: model.batches == [1])
    others = [asyncio.create_task(asked(lane, *range(n, n + n))) for n in range(1, 9)]
    await eventually(lambda: lane.waiting == 8)
    model.go_on.set()
    assert await first == [0]
    assert await asyncio.gather(*others) == [[float(it) for it in range(n, n + n)] for n in range(1, 9)]
    assert model.batches == [1, 36]


async def test_a_batch_has_its_limit_and_a_large_request_goes_alone() -> None:
    model = Model()
    lane = Lane(model.run, waiting=100, patience=60)
    sizes = [1, BATCH_ROWS - 1, 1, BATCH_ROWS + 5, 1]
    tasks = [asyncio.create_task(asked(lane, *range(size))) for size in sizes[:1]]
    await eventually(lambda: model.batches == [1])
    tasks += [asyncio.create_task(asked(lane, *([1.0] * size))) for size in sizes[1:]]
    await eventually(lambda: lane.waiting == 4)
    model.go_on.set()
    await asyncio.gather(*tasks)
    assert model.batches == [1, BATCH_ROWS, BATCH_ROWS + 5, 1]


async def test_more_than_may_wait_are_told_to_come_again() -> None:
    model = Model()
    lane = Lane(model.run, waiting=2, patience=60)
    tasks = [asyncio.create_task(asked(lane, 1))]
    await eventually(lambda: model.batches == [1])
    tasks += [asyncio.create_task(asked(lane, 1)) for _ in range(2)]
    await eventually(lambda: lane.waiting == 2)
    with pytest.raises(Overloaded) as raised:
        await asked(lane, 1)
    assert raised.value.retry_after is not None
    model.go_on.set()
    assert await asyncio.gather(*tasks) == [[1], [1], [1]]
    assert await asked(lane, 2) == [2]


async def test_rows_that_wait_have_a_limit_too() -> None:
    model = Model()
    lane = Lane(model.run, waiting=100, patience=60)
    tasks = [asyncio.create_task(asked(lane, 1))]
    await eventually(lambda: model.batches == [1])
    half = [1.0] * (QUEUED_ROWS // 2)
    tasks += [asyncio.create_task(asked(lane, *half)) for _ in range(2)]
    await eventually(lambda: lane.waiting == 2)
    with pytest.raises(Overloaded, match=f"{QUEUED_ROWS} rows"):
        await asked(lane, 1)
    model.go_on.set()
    await asyncio.gather(*tasks)
    assert await asked(lane, *half) == half


async def test_what_a_client_gave_up_is_not_done() -> None:
    model = Model()
    lane = Lane(model.run, waiting=10, patience=60)
    first, given_up, last = (asyncio.create_task(asked(lane, value)) for value in (1, 2, 3))
    await eventually(lambda: len(model.batches) == 1)
    queued = asyncio.create_task(asked(lane, 9))
    await eventually(lambda: lane.waiting == 1)
    for task in (given_up, queued):
        task.cancel()
    await asyncio.wait({given_up, queued})
    model.go_on.set()
    assert (await first, await last) == ([1.0], [3.0])
    await lane.drain()
    assert model.batches == [3]


async def test_rows_that_break_the_model_break_no_other_request() -> None:
    model = Model()
    lane = Lane(model.run, waiting=10, patience=60)
    model.go_on.set()
    answers = await asyncio.gather(*(asked(lane, value) for value in (1, -1, 3)), return_exceptions=True)
    assert [answers[0], answers[2]] == [[1], [3]]
    assert isinstance(answers[1], errors.Corrupt)
    assert model.batches == [3, 1, 1, 1]


async def test_whatever_happens_to_the_model_those_who_wait_hear_of_it() -> None:
    model = Model()
    lane = Lane(model.run, waiting=10, patience=60)
    model.go_on.set()
    answers = await asyncio.gather(*(asked(lane, value) for value in (1, 1001)), return_exceptions=True)
    assert all(isinstance(answer, OSError) for answer in answers)
    assert await asked(lane, 1) == [1]
