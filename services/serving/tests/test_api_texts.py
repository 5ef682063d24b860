"""Texts as they are written, into a Pipeline that makes numbers of them: its vectorizer is a part of the graph."""

import base64
import json
import struct
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
from grpc_at_work import Caller
from processes import free_port
from registries import Registry
from servings_at_work import Serving
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sqlalchemy.ext.asyncio import AsyncEngine
from test_api_tensors import LENGTH, Linear, found
from worlds import Trained

from kit.testing import KeyFolder
from models.tensor_signature import TensorSignature, TensorSpec
from serving.grpc.schema import MESSAGES
from serving.settings import Settings

WORDS = "[a-zA-Z]+"
CALM, CROSS = "on time smooth quick friendly calm", "late delayed lost angry rude broken"
OTHERS = "the flight was crew and gate"
SIGNATURE = TensorSignature(
    (TensorSpec("text", "BYTES", (-1, 1)),),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
)
ASKED = ["Late again, the crew was RUDE.", "Smooth and quick", "", "words nobody has seen", "späte Züge\nlate"]


@cache
def fitted() -> Pipeline:
    random = np.random.default_rng(0)
    texts, labels = [], []
    for number in range(300):
        label = number % 2
        words = [*random.choice((CROSS if label else CALM).split(), 4), *random.choice(OTHERS.split(), 3)]
        texts.append(" ".join(random.permutation(words)).capitalize() + "!")
        labels.append(label)
    steps = [("words", TfidfVectorizer(token_pattern=WORDS)), ("cross", LogisticRegression())]
    return Pipeline(steps).fit(texts, labels)


def graph() -> bytes:
    """The whole Pipeline, as its user makes a graph of it."""
    made = to_onnx(
        fitted(),
        initial_types=[("text", StringTensorType([None, 1]))],
        options={TfidfVectorizer: {"tokenexp": WORDS, "locale": "C"}, LogisticRegression: {"zipmap": False}},
        target_opset={"": 20, "ai.onnx.ml": 3},
    )
    return bytes(made.SerializeToString())


@pytest.fixture
async def at(
    settings: Callable[..., Settings], key_folder: KeyFolder, engine: AsyncEngine, registry: Registry
) -> AsyncIterator[tuple[Serving, Caller]]:
    port = free_port()
    registry.register("mood", cast(Trained, Linear({"onnx": graph()}, SIGNATURE, [{"text": ["The gate was calm"]}])))
    async with Serving.started(settings(grpc_port=port), key_folder) as serving:
        await serving.deploy("mood", "mood")
        async with Caller.at(port, key_folder.headers("serving")) as caller:
            yield serving, caller


def packed(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(it)) + it for it in (text.encode() for text in texts))


async def test_texts_get_the_pipelines_own_answers_by_every_way_in(at: tuple[Serving, Caller]) -> None:
    serving, caller = at
    labels, scores = fitted().predict(ASKED), fitted().predict_proba(ASKED)
    encoded = [{"b64": base64.b64encode(it.encode()).decode()} for it in ASKED]
    answers = []
    for rows in ([[it] for it in ASKED], [{"text": [it]} for it in ASKED], [[it] for it in encoded]):
        said = found(await serving.http.post("/v1/deployments/mood/predict", json={"rows": rows}))["predictions"]
        answers.append(([it["label"] for it in said], [it["probabilities"] for it in said]))
    tensor: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [len(ASKED), 1]}
    answers.append(_outputs(found(await _infer(serving, {"inputs": [{**tensor, "data": ASKED}]}))))
    raw = packed(ASKED)
    described = {**tensor, "parameters": {"binary_data_size": len(raw)}}
    answers.append(_outputs(found(await _infer(serving, {"inputs": [described]}, raw))))
    request = MESSAGES["ModelInferRequest"](model_name="mood", raw_input_contents=[raw])
    request.inputs.add(**tensor)
    label, probabilities = (await caller.ask("ModelInfer", request)).raw_output_contents
    answers.append((np.frombuffer(label, "<i8").tolist(), np.frombuffer(probabilities, "<f4").reshape(-1, 2).tolist()))
    for label, probabilities in answers:
        assert label == labels.tolist()
        np.testing.assert_allclose(probabilities, scores, atol=1e-6)
        np.testing.assert_array_equal(np.array(probabilities, np.float32), np.array(answers[0][1], np.float32))


async def test_bytes_that_are_no_text_are_the_askers_mistake(at: tuple[Serving, Caller]) -> None:
    serving, _ = at
    row = [{"b64": base64.b64encode(b"\xff\xfe").decode()}]
    refused = await serving.http.post("/v1/deployments/mood/predict", json={"rows": [row]})
    assert refused.status_code == 422, refused.text
    assert (await serving.http.post("/v1/deployments/mood/predict", json={"rows": [["late"]]})).is_success


async def _infer(serving: Serving, document: dict[str, Any], behind: bytes = b"") -> Any:
    head = json.dumps(document).encode()
    return await serving.http.post("/v2/models/mood/infer", content=head + behind, headers={LENGTH: str(len(head))})


def _outputs(said: dict[str, Any]) -> tuple[list[int], list[list[float]]]:
    label, probabilities = said["outputs"]
    return label["data"], np.array(probabilities["data"]).reshape(-1, 2).tolist()
