"""Models in memory: where they are asked, and what their first answers tell."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from registries import digest_of
from targets import target
from test_replica import Source
from worlds import LOGISTIC, REGRESSOR, rows, trained

from models.onnx_models import OnnxModel
from models.rows import arrays_of
from models.signature import Arrays, ModelOutputInvalid, Prediction, Signature
from serving.domain.costs import Cost
from serving.domain.revisions import File, Target
from serving.replica.children import ModelFailed
from serving.replica.files import Files
from serving.replica.lanes import Queueing
from serving.replica.residents import ON_LOOP, Here, Loader, Resident, Threads, formats_here
from serving.runner.warming import example_of, warm


class Noting:
    """A model that notes on which thread it is asked."""

    def __init__(self, path: str = LOGISTIC) -> None:
        made = trained(path)
        self._model = OnnxModel(made.files["onnx"], made.signature)
        self.signature = made.signature
        self.threads: list[int] = []

    def predict(self, arrays: Arrays) -> Prediction:
        self.threads.append(threading.get_ident())
        return self._model.predict(arrays)


class NoChildren:
    """Nothing here needs one."""

    async def load(self, project: str, target: Target, path: Path, memory: int | None) -> Resident:
        raise AssertionError("nothing here needs a child")


async def test_what_is_quick_is_asked_on_the_loop_and_what_is_not_on_a_thread() -> None:
    model = Noting()
    arrays = arrays_of(model.signature, {"rows": rows(4)})
    threads = Threads(1, Queueing(10))
    here = Here(model, Cost(0, ON_LOOP / 4), threads)
    quick = await here.predict(arrays, 4)
    assert model.threads == [threading.get_ident()]
    slow = await Here(model, Cost(0, ON_LOOP / 3), threads).predict(arrays, 4)
    assert model.threads[1] != threading.get_ident()
    np.testing.assert_array_equal(quick.scores, slow.scores)
    many = await asyncio.gather(*(Here(model, Cost(1, 0), threads).predict(arrays, 4) for _ in range(3)))
    assert [len(one.values) for one in many] == [4, 4, 4]
    await here.close()
    threads.close()


async def test_where_scikit_learn_is_left_out_a_model_that_needs_it_is_refused_with_what_to_do(tmp_path: Path) -> None:
    described = target(file=File("skops", "model.skops", digest_of(b"x"), 1))
    source = Source(b"x")
    files = Files(tmp_path, source, largest=1)
    files.prepare()
    loader = Loader(files, NoChildren(), queueing=Queueing(1), threads=1, formats=("onnx",))
    with pytest.raises(ModelFailed, match="the image `serving`, not `serving-onnx`"):
        await loader.load("demo", described)
    assert source.asked == 0
    loader.close()
    assert {"onnx", "skops", "safetensors"} <= set(formats_here())


async def test_a_model_that_loads_for_long_keeps_no_other_waiting_nor_the_process_from_its_end(tmp_path: Path) -> None:
    content = trained().files["onnx"]
    file = File("onnx", "model.onnx", digest_of(content), len(content))
    described = target(file=file, signature=trained().signature.to_json(), example=())
    files = Files(tmp_path, Source(content), largest=len(content))
    files.prepare()
    begun, go_on = threading.Barrier(3), threading.Event()

    class Hanging(Loader):
        def _onnx(self, content: bytes, target: Target) -> Here:
            made = super()._onnx(content, target)
            assert made is not None
            made.cost = Cost(1, 0)
            if target.version != 1:
                begun.wait()
                go_on.wait()
            return made

    loader = Hanging(files, NoChildren(), queueing=Queueing(10), threads=2)
    here = await loader.load("demo", described)
    slow = [asyncio.create_task(loader.load("demo", replace(described, version=2))) for _ in range(2)]
    await asyncio.to_thread(begun.wait)
    async with asyncio.timeout(10):
        arrays = arrays_of(here.signature, {"rows": rows(4)})
        assert len((await here.predict(arrays, 4)).values) == 4
        loader.close()
    go_on.set()
    await asyncio.gather(*slow)
    files.close()


def test_a_model_is_warmed_with_its_own_example_or_with_a_made_one() -> None:
    model = Noting(REGRESSOR)
    document = model.signature.to_json()
    own = example_of(model.signature, target(signature=document, example=tuple(trained(REGRESSOR).example)))
    made = example_of(model.signature, target(signature=document, example=({"nothing": 1},)))
    assert own["distance"][0, 0] > 0
    assert made["distance"].tolist() == [[0]]
    assert 0 < warm(model, target(signature=document, example=())) < 1


def test_a_model_that_answers_what_is_no_number_is_not_warm() -> None:
    class Broken:
        signature: Signature = trained(REGRESSOR).signature

        def predict(self, arrays: Arrays) -> Prediction:
            return Prediction(np.array([np.nan]), None)

    with pytest.raises(ModelOutputInvalid):
        warm(Broken(), target(example=()))
