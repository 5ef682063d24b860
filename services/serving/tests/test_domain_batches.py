"""Which models a batch may ask about which rows, and who of them is asked."""

import orjson
import pytest
from targets import SIGNATURE, target

from models.signature import Signature
from serving.domain.batch_rows import chunk_of
from serving.domain.batches import BatchUnfit, Column, require_fit, signatures_of

NUMBERS = {**SIGNATURE, "outputs": [{"name": "value", "type": "integer", "nullable": False}]}


def test_a_model_that_no_row_falls_to_is_not_asked() -> None:
    signature = Signature.from_json(SIGNATURE)
    chunk = chunk_of([orjson.dumps({"carrier": "UA"})] * 3, 0, [signature, signature], [100, 0])
    assert [(ask.target, ask.places) for ask in chunk.asks] == [(0, [0, 1, 2])]
    assert chunk.answerers == [0, 0, 0]


def test_models_that_answer_in_different_types_have_no_column_together() -> None:
    with pytest.raises(BatchUnfit, match="different types"):
        require_fit([target(), target(version=2, signature=NUMBERS)], [Column("carrier", "string")])


def test_a_model_of_tensors_is_asked_about_no_rows() -> None:
    with pytest.raises(BatchUnfit, match="takes tensors"):
        signatures_of([target(signature={"task": "tensors"})])
