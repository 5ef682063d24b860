"""Models in formats of other libraries: what they answer, against the libraries themselves, and what is refused."""

import json
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from models.architectures import model_of
from models.boosters import lightgbm_model, xgboost_model
from models.matrix_models import MatrixModel
from models.runners import ModelUnloadable
from models.safetensors_files import tensors_in
from models.signature import Arrays, Field, Signature
from models.tensor_signature import AnySignature, TensorSignature, TensorSpec

Array = np.ndarray[Any, Any]
SEED = np.random.default_rng(7)


def tensors(features: int, *answers: int, datatype: str = "FP32") -> TensorSignature:
    return TensorSignature((TensorSpec("x", datatype, (-1, features)),), (TensorSpec("y", datatype, (-1, *answers)),))


def columns(features: int, task: str = "regression", classes: tuple[Any, ...] = ()) -> Signature:
    return Signature.of([Field(f"c{it}", "number", True) for it in range(features)], task, classes)


def packed(weights: dict[str, Array], **changes: Any) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"made": "here"}}
    at = 0
    for name, array in weights.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    header |= changes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in weights.values())


def mlp(*sizes: int) -> dict[str, Array]:
    made: dict[str, Array] = {}
    for index, (width, height) in enumerate(pairwise(sizes)):
        made[f"layers.{index}.weight"] = SEED.normal(size=(height, width)).astype(np.float32)
        made[f"layers.{index}.bias"] = SEED.normal(size=height).astype(np.float32)
    return made


def asked(model: MatrixModel, x: Array) -> Array:
    found = model.predict({"x": x}).tensors
    assert found is not None
    return found["y"]


# Weights with an architecture


@pytest.mark.parametrize(("activation", "function"), [("relu", lambda it: np.maximum(it, 0)), ("tanh", np.tanh)])
def test_an_mlp_is_its_formula(activation: str, function: Any) -> None:
    weights = mlp(5, 8, 3)
    said = {"name": "mlp", "sizes": [5, 8, 3], "activation": activation, "output": "softmax"}
    model = model_of(said, tensors_in(packed(weights)), tensors(5, 3))
    x = SEED.normal(size=(6, 5)).astype(np.float32)
    double = {name: array.astype(np.float64) for name, array in weights.items()}
    hidden = function(x @ double["layers.0.weight"].T + double["layers.0.bias"])
    logits = hidden @ double["layers.1.weight"].T + double["layers.1.bias"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = asked(model, x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(asked(model, x), found)  # and the request was left as it was


def test_a_linear_model_is_its_formula() -> None:
    weights = {"weight": np.array([[1, 2]], np.float32), "bias": np.array([0.5], np.float32)}
    x = np.array([[1, 1], [-500, 0]], np.float32)
    for output, expected in (("none", [3.5, -499.5]), ("sigmoid", [1 / (1 + np.exp(-3.5)), 0])):
        said = {"name": "linear", "inputs": 2, "outputs": 1, "output": output}
        for signature in (tensors(2), tensors(2, 1)):
            model = model_of(said, tensors_in(packed(weights)), signature)
            np.testing.assert_allclose(asked(model, x).ravel(), expected, rtol=1e-6, atol=1e-30)


def test_columns_are_features_in_order_and_probabilities_choose_the_class() -> None:
    weights = {"weight": np.array([[1, -1]], np.float32), "bias": np.array([0], np.float32)}
    said = {"name": "linear", "inputs": 2, "outputs": 1, "output": "sigmoid"}
    signature = columns(2, "classification", ("no", "yes"))
    model = model_of(said, tensors_in(packed(weights)), signature)
    arrays: Arrays = {"c0": np.array([[3], [0]], np.float32), "c1": np.array([[0], [3]], np.float32)}
    answers = signature.answers_of(model.predict(arrays))
    assert [it["label"] for it in answers] == ["yes", "no"]
    assert answers[0]["score"] == pytest.approx(1 / (1 + np.exp(-3)))
    value = columns(2)
    plain = model_of({**said, "output": "none"}, tensors_in(packed(weights)), value)
    assert value.answers_of(plain.predict(arrays)) == [{"value": 3.0}, {"value": -3.0}]


GOOD: dict[str, Any] = {"name": "mlp", "sizes": [5, 8, 3]}


@pytest.mark.parametrize(
    ("said", "weights", "signature", "detail"),
    [
        (None, mlp(5, 8, 3), tensors(5, 3), "architecture.name must be one of linear, mlp"),
        ({"name": "bert"}, mlp(5, 8, 3), tensors(5, 3), "must be one of"),
        ({**GOOD, "activation": "gelu"}, mlp(5, 8, 3), tensors(5, 3), "activation must be one of"),
        ({**GOOD, "output": 7}, mlp(5, 8, 3), tensors(5, 3), "output must be one of"),
        ({**GOOD, "dropout": 1}, mlp(5, 8, 3), tensors(5, 3), "unknown members: 'dropout'"),
        ({**GOOD, "sizes": [5]}, mlp(5, 8, 3), tensors(5, 3), "1 to 64 layers"),
        ({**GOOD, "sizes": [5, 0, 3]}, mlp(5, 8, 3), tensors(5, 3), "1 to 1048576 values"),
        ({**GOOD, "sizes": [5, 7, 3]}, mlp(5, 8, 3), tensors(5, 3), "'layers.0.weight' must be F32 of shape [7, 5]"),
        ({**GOOD, "sizes": [5, 3]}, mlp(5, 8, 3), tensors(5, 3), "is none of this architecture's"),
        (GOOD, mlp(5, 8), tensors(5, 3), "is missing"),
        (GOOD, mlp(5, 8, 3), tensors(4, 3), "of shape [-1, 5]"),
        (GOOD, mlp(5, 8, 3), tensors(5, 2), "of shape [-1, 3]"),
        (GOOD, mlp(5, 8, 3), tensors(5, 3, datatype="INT8"), "FP32 or FP64"),
        (GOOD, mlp(5, 8, 3), columns(4), "takes 5 columns"),
        (GOOD, mlp(5, 8, 3), columns(5), "gives 3 numbers"),
        (
            GOOD,
            mlp(5, 8, 3),
            TensorSignature((TensorSpec("x", "FP32", (-1, 5)), TensorSpec("z", "FP32", (-1,))), tensors(5, 3).outputs),
            "one input and one output",
        ),
    ],
)
def test_weights_are_exactly_those_of_the_architecture(
    said: Any, weights: dict[str, Array], signature: AnySignature, detail: str
) -> None:
    with pytest.raises(ModelUnloadable) as raised:
        model_of(said, tensors_in(packed(weights)), signature)
    assert detail in raised.value.detail


ONE = {"w": np.ones((2, 2), np.float32)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        b"\x80\x04\x95" + b"\0" * 40,
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"{{{{",
        packed(ONE)[:-1],
        packed(ONE) + b"\0",
        packed(ONE, w={"dtype": "F32", "shape": [2, 2], "data_offsets": [4, 20]}),
        packed(ONE, w={"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 16]}),
        packed(ONE, w={"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}),
        packed(ONE, w={"dtype": "F8", "shape": [2, 2], "data_offsets": [0, 16]}),
        packed(ONE, w={"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 16]}),
        packed(ONE, w={"shape": [2, 2]}),
        packed(ONE, v={"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}),
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        struct.pack("<Q", 12) + b'{"a":1,"a":2}'[:12],
        struct.pack("<Q", 13) + b'{"a":1,"a":2}',
    ],
)
def test_what_is_no_file_of_weights_is_refused(content: bytes) -> None:
    with pytest.raises(ModelUnloadable):
        tensors_in(content)


def test_weights_are_where_the_file_is_unless_that_is_no_place_for_numbers() -> None:
    content = packed(ONE)
    assert tensors_in(content)["w"].base is not None
    text = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    odd = next(struct.pack("<Q", len(raw)) + raw + struct.pack("<f", 2) for raw in [text + b" " * (5 - len(text) % 4)])
    assert tensors_in(odd)["w"].tolist() == [2]


def test_safetensors_own_library_writes_what_is_read() -> None:
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed: not compared with it")
    weights = mlp(3, 4, 2)
    found = tensors_in(numpy.save(weights, metadata={"made": "there"}))
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array)


# Boosted trees, by their own libraries


def table() -> tuple[Array, Array]:
    x = SEED.normal(size=(300, 4))
    x[::7, 2] = np.nan
    return x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)


@pytest.mark.parametrize(("objective", "answers"), [("regression", 1), ("binary", 1), ("multiclass", 3)])
def test_lightgbm_answers_as_it_does_itself(objective: str, answers: int) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed: its models are not tried")
    x, y = table()
    y = np.minimum(y, 1) if objective == "binary" else y
    said = {"objective": objective, "verbosity": -1, "num_threads": 1}
    said |= {"num_class": 3} if answers == 3 else {}
    booster = lightgbm.train(said, lightgbm.Dataset(x, y), 12)
    content = booster.model_to_string().encode()
    shape = (3,) if answers == 3 else ()
    model = lightgbm_model(content, tensors(4, *shape, datatype="FP64"))
    np.testing.assert_array_equal(asked(model, x), booster.predict(x))
    arrays: Arrays = {f"c{it}": x[:, it : it + 1].astype(np.float32) for it in range(4)}
    expected = booster.predict(x.astype(np.float32))
    if objective == "regression":
        np.testing.assert_array_equal(lightgbm_model(content, columns(4)).predict(arrays).values, expected)
        return
    signature = columns(4, "classification", tuple(range(max(answers, 2))))
    prediction = lightgbm_model(content, signature).predict(arrays)
    labels = expected.argmax(axis=1) if answers == 3 else (expected > 0.5).astype(int)
    assert signature.labels_of(prediction) == labels.tolist()
    assert prediction.scores is not None
    np.testing.assert_array_equal(prediction.scores[:, -1], expected[:, -1] if answers == 3 else expected)


@pytest.mark.parametrize("kind", ["ubj", "json"])
@pytest.mark.parametrize(("objective", "answers"), [("reg:squarederror", 1), ("multi:softprob", 3)])
def test_xgboost_answers_as_it_does_itself(kind: str, objective: str, answers: int) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed: its models are not tried")
    x, y = table()
    said = {"objective": objective, "nthread": 1} | ({"num_class": 3} if answers == 3 else {})
    names = ["c3", "c0", "c1", "c2"]
    booster = xgboost.train(said, xgboost.DMatrix(x, y, feature_names=names), 12)
    content = bytes(booster.save_raw(raw_format=kind))
    shape = (3,) if answers == 3 else ()
    model = xgboost_model(content, tensors(4, *shape))
    expected = booster.predict(xgboost.DMatrix(x.astype(np.float32), feature_names=names))
    np.testing.assert_array_equal(asked(model, x.astype(np.float32)), expected)
    if objective == "reg:squarederror":  # the columns go by their names, in whatever order the signature has them
        arrays: Arrays = {name: x[:, it : it + 1].astype(np.float32) for it, name in enumerate(names)}
        np.testing.assert_array_equal(xgboost_model(content, columns(4)).predict(arrays).values, expected)


@pytest.mark.parametrize("load", [lightgbm_model, xgboost_model])
def test_garbage_is_no_booster_whether_its_library_is_here_or_not(load: Any) -> None:
    for content in (b"", b"\x80\x04.", b"PK\x03\x04", b"tree\nversion=v4\n", b"{", b"{]}", b"{" * 9999 + b"}"):
        with pytest.raises(ModelUnloadable):
            load(content, tensors(4))


@pytest.mark.parametrize("module", ["lightgbm", "xgboost"])
def test_what_is_no_booster_is_refused(module: str) -> None:
    library = pytest.importorskip(module, reason=f"{module} is not installed: its models are not tried")
    x, y = table()
    if module == "lightgbm":
        load = lightgbm_model
        made = library.train({"verbosity": -1, "num_threads": 1}, library.Dataset(x, y), 2)
        good = made.model_to_string().encode()
        # Of these LightGBM itself would end the process, as it does of others: why it runs in a child.
        bad = [good.replace(b"max_feature_idx=", b"max="), good.replace(b"num_class=", b"n=")]
    else:
        load = xgboost_model
        good = bytes(library.train({"nthread": 1}, library.DMatrix(x, y), 2).save_raw(raw_format="json"))
        bad = [b"{}", b'{"learner": {}}', b"{L\xff\xff\xff\xff\xff\xff\xff\xff}", b"[" * 10_000]
    for content in (b"", b"\x80\x04.", b"PK\x03\x04", good[: len(good) // 2], *bad):
        with pytest.raises(ModelUnloadable):
            load(content, tensors(4))
    with pytest.raises(ModelUnloadable):
        load(good, tensors(5))
    assert asked(load(good, tensors(4)), x[:3].astype(np.float32)).shape == (3,)


def test_a_model_that_gives_other_numbers_is_found_out() -> None:
    model = MatrixModel(lambda matrix: np.zeros(1), tensors(2), features=2, answers=1)
    with pytest.raises(ModelUnloadable):
        model.predict({"x": np.zeros((3, 2), np.float32)})
