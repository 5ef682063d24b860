"""Models in memory: where they are asked, and what their first answers tell."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from targets import target
from worlds import LOGISTIC, REGRESSOR, rows, trained

from models.onnx_models import OnnxModel
from models.rows import arrays_of
from models.signature import Arrays, ModelOutputInvalid, Prediction, Signature
from serving.replica.residents import ON_LOOP, Here
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


async def test_what_is_quick_is_asked_on_the_loop_and_what_is_not_on_a_thread() -> None:
    model = Noting()
    arrays = arrays_of(model.signature, {"rows": rows(4)})
    with ThreadPoolExecutor(1) as pool:
        here = Here(model, ON_LOOP / 4, pool, waiting=10)
        quick = await here.predict(arrays, 4)
        assert model.threads == [threading.get_ident()]
        slow = await Here(model, ON_LOOP / 3, pool, waiting=10).predict(arrays, 4)
        assert model.threads[1] != threading.get_ident()
        np.testing.assert_array_equal(quick.scores, slow.scores)
        many = await asyncio.gather(*(Here(model, 1, pool, waiting=10).predict(arrays, 4) for _ in range(3)))
        assert [len(one.values) for one in many] == [4, 4, 4]
        await here.close()


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
