"""Models for work that nobody asks for online: shared where they answer, and otherwise loaded for a while."""

import uuid
from typing import Any

import numpy as np
import pytest
from targets import digest, target

from kit import errors
from models.signature import Prediction
from serving.domain.costs import Cost
from serving.domain.desired import Desired
from serving.domain.revisions import File, Target
from serving.replica.borrowed import Borrowed
from serving.replica.lanes import Lane
from serving.replica.table import Answering, Live, Table


class Model:
    """One that says how often it was asked, and how."""

    def __init__(self, *, quick: bool = True) -> None:
        self.quick = quick
        self.is_lost = False
        self.is_closed = False
        self.asked: list[str] = []

    def is_quick(self, rows: int) -> bool:
        return self.quick

    def lane(self, limits: Any) -> Lane:
        return Lane(self._in_lane, waiting=1, cost=Cost(0.0, 0.0))

    async def _in_lane(self, arrays: Any) -> Prediction:
        self.asked.append("lane")
        return Prediction(np.zeros(1), None)

    async def predict(self, arrays: Any, rows: int) -> Prediction:
        self.asked.append("at once")
        return Prediction(np.zeros(1), None)

    async def close(self) -> None:
        self.is_closed = True


class Loader:
    def __init__(self) -> None:
        self.made: list[Model] = []

    async def load(self, project: str, wanted: Any) -> Any:
        if wanted.version == 99:
            raise errors.Corrupt("It is damaged.")
        self.made.append(Model())
        return self.made[-1]


@pytest.fixture
def desired() -> Desired:
    return Desired("demo", "late", uuid.uuid4(), 1, (target(),))


def other() -> Target:
    """Of another file."""
    return target(version=2, file=File("onnx", "model.onnx", digest("c"), 10))


def table_of(model: Any, desired: Desired) -> Table:
    table = Table()
    table.put(Live(desired, (Answering(desired.targets[0], model),)))
    return table


async def test_what_answers_online_is_shared_and_asked_in_a_queue_of_its_own(desired: Desired) -> None:
    for quick, how in ((True, "at once"), (False, "lane")):
        model, loader = Model(quick=quick), Loader()
        borrowed = Borrowed(table_of(model, desired), loader)
        async with borrowed.borrow(desired.project, desired.targets) as [lent]:
            await lent.predict({"x": np.zeros((1, 1), np.float32)}, 1)
        await borrowed.close()
        assert (model.asked, model.is_closed, loader.made) == ([how], False, [])


async def test_what_does_not_answer_is_loaded_once_and_given_back(desired: Desired) -> None:
    loader = Loader()
    borrowed = Borrowed(Table(), loader)
    async with borrowed.borrow("demo", desired.targets), borrowed.borrow("demo", desired.targets):
        await borrowed.close()
        assert [model.is_closed for model in loader.made] == [False]
    async with borrowed.borrow("demo", [other()]):  # of another batch: the one before is not kept beside it
        assert [model.is_closed for model in loader.made] == [True, False]
    async with borrowed.borrow("other", [other()]):
        assert len(loader.made) == 3
    await borrowed.close()
    assert all(model.is_closed for model in loader.made)


async def test_what_is_lost_is_loaded_anew(desired: Desired) -> None:
    model, loader = Model(), Loader()
    model.is_lost = True
    borrowed = Borrowed(table_of(model, desired), loader)
    async with borrowed.borrow(desired.project, desired.targets):
        pass
    loader.made[0].is_lost = True
    async with borrowed.borrow(desired.project, desired.targets):
        assert len(loader.made) == 2


async def test_what_cannot_be_loaded_is_said(desired: Desired) -> None:
    borrowed = Borrowed(Table(), Loader())
    with pytest.raises(errors.Corrupt):
        async with borrowed.borrow("demo", [target(version=99)]):
            raise AssertionError
