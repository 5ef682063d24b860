"""ONNX models that take and give tensors, and what is found in their files before they run."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.onnx_models import NotText, OnnxModelInvalid, OnnxTensors, onnx_model
from models.onnx_structure import MAX_DEPTH, MAX_PARTS, OnnxOutside, unplain
from models.signature import ModelOutputInvalid
from models.tensor_rows import arrays_of_rows
from models.tensor_signature import TensorSignature, TensorSpec

FLOAT, STRING, INT64, UINT8, BOOL = (
    *(TensorProto.FLOAT, TensorProto.STRING, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL),
)


def made(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any] | None = None, **said: Any) -> Any:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*it) for it in inputs],
        [helper.make_tensor_value_info(*it) for it in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights or []],
    )
    opsets = [helper.make_opsetid("", 20), *said.pop("opsets", [])]
    return helper.make_model(graph, ir_version=10, opset_imports=opsets, **said)


def scaled(**said: Any) -> Any:
    """y = 2 x"""
    node = helper.make_node("Mul", ["x", "two"], ["y"])
    two = [("two", np.array(2, np.float32))]
    return made([node], [("x", FLOAT, ["n", 2])], [("y", FLOAT, ["n", 2])], two, **said)


def spec(name: str, datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, datatype, shape)


SCALED = TensorSignature((spec("x", "FP32", -1, 2),), (spec("y", "FP32", -1, 2),))


def test_texts_and_numbers_go_in_and_several_outputs_come_out() -> None:
    """What is done before and after the model is part of it: lower case, a vocabulary, a threshold, the name of it."""
    nodes = [
        helper.make_node("StringNormalizer", ["word"], ["lower"], case_change_action="LOWER", locale="C"),
        helper.make_node(
            *("LabelEncoder", ["lower"], ["known"]),
            domain="ai.onnx.ml",
            keys_strings=["good", "bad"],
            values_floats=[1.0, -1.0],
            default_float=0.0,
        ),
        helper.make_node("Mul", ["known", "weight"], ["score"]),
        helper.make_node("Greater", ["score", "zero"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["which"], to=INT64),
        helper.make_node(
            *("LabelEncoder", ["which"], ["label"]),
            domain="ai.onnx.ml",
            keys_int64s=[0, 1],
            values_strings=["no", "jä"],
        ),
    ]
    model = made(
        nodes,
        [("word", STRING, ["n"]), ("weight", FLOAT, ["n"])],
        [("score", FLOAT, ["n"]), ("label", STRING, ["n"]), ("positive", BOOL, ["n"])],
        [("zero", np.array(0, np.float32))],
        opsets=[helper.make_opsetid("ai.onnx.ml", 3)],
    )
    outputs = spec("label", "BYTES", -1), spec("positive", "BOOL", -1), spec("score", "FP32", -1)
    signature = TensorSignature((spec("weight", "FP32", -1), spec("word", "BYTES", -1)), outputs)
    assert unplain(model.SerializeToString()) == ""
    runner = onnx_model(model.SerializeToString(), signature)
    asked = [{"word": "GOOD", "weight": 2}, {"word": "bad", "weight": 0.5}, {"word": "ü", "weight": 1}]
    prediction = runner.predict(arrays_of_rows(signature, asked))
    assert signature.answers_of(prediction) == [
        {"label": "jä", "positive": True, "score": 2.0},
        {"label": "no", "positive": False, "score": -0.5},
        {"label": "no", "positive": False, "score": 0.0},
    ]
    with pytest.raises(NotText):
        runner.predict(arrays_of_rows(signature, [{"word": {"b64": "/w=="}, "weight": 1}]))


def test_an_image_is_scaled_in_the_graph() -> None:
    """Raw pixels in, and what the model wants of them is its own affair."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=FLOAT),
        helper.make_node("Div", ["float", "most"], ["unit"]),
        helper.make_node("ReduceMean", ["unit", "axes"], ["brightness"], keepdims=0),
    ]
    weights = [("most", np.array(255, np.float32)), ("axes", np.array([1, 2, 3]))]
    inputs = [("image", UINT8, ["n", "h", "w", 3])]
    model = made(nodes, inputs, [("brightness", FLOAT, ["n"])], weights)
    signature = TensorSignature((spec("image", "UINT8", -1, -1, -1, 3),), (spec("brightness", "FP32", -1),))
    runner = onnx_model(model.SerializeToString(), signature)
    images = np.zeros((2, 4, 5, 3), np.uint8)
    images[1] = 255
    assert signature.answers_of(runner.predict({"image": images})) == [{"brightness": 0.0}, {"brightness": 1.0}]


def test_an_answer_is_what_the_signature_promises() -> None:
    node = helper.make_node("NonZero", ["x"], ["y"])
    model = made([node], [("x", FLOAT, ["n"])], [("y", INT64, [None, "m"])]).SerializeToString()
    signature = TensorSignature((spec("x", "FP32", -1),), (spec("y", "INT64", 1, -1),))
    found = onnx_model(model, signature).predict({"x": np.array([0, 1, 1], np.float32)})
    assert signature.answers_of(found) == [{"y": [[1, 2]]}]
    node = helper.make_node("Compress", ["x", "x"], ["y"])
    fewer = made([node], [("x", BOOL, ["n"])], [("y", BOOL, ["m"])]).SerializeToString()
    batched = TensorSignature((spec("x", "BOOL", -1),), (spec("y", "BOOL", -1),))
    assert onnx_model(fewer, batched).predict({"x": np.ones(3, bool)}).size == 3
    with pytest.raises(ModelOutputInvalid):
        onnx_model(fewer, batched).predict({"x": np.array([True, False, True])})
    sequence = made([helper.make_node("SequenceConstruct", ["x"], ["y"])], [("x", FLOAT, [1])], [("y", FLOAT, [1])])
    sequence.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", FLOAT, [1]))
    with pytest.raises(OnnxModelInvalid):
        onnx_model(sequence.SerializeToString(), TensorSignature((spec("x", "FP32", 1),), (spec("y", "FP32", 1),)))


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (TensorSignature((spec("z", "FP32", -1, 2),), SCALED.outputs), "takes 'x'"),
        (TensorSignature((spec("x", "FP64", -1, 2),), SCALED.outputs), "'x' is FP64"),
        (TensorSignature((spec("x", "FP32", -1),), SCALED.outputs), "'x' is FP32 of shape [-1]"),
        (TensorSignature((spec("x", "FP32", -1, -1),), SCALED.outputs), "'x' has the shape"),
        (TensorSignature((spec("x", "FP32", -1, 3),), SCALED.outputs), "'x' has the shape"),
        (TensorSignature(SCALED.inputs, (spec("z", "FP32", -1, 2),)), "nothing of this name"),
    ],
)
def test_the_signature_is_that_of_the_model(signature: TensorSignature, said: str) -> None:
    with pytest.raises(OnnxModelInvalid) as raised:
        onnx_model(scaled().SerializeToString(), signature)
    assert said in raised.value.detail


def test_a_model_that_fails_says_so() -> None:
    node = helper.make_node("MatMul", ["x", "x"], ["y"])
    model = made([node], [("x", FLOAT, ["n", "k"])], [("y", FLOAT, ["n", "k"])])
    signature = TensorSignature((spec("x", "FP32", -1, -1),), (spec("y", "FP32", -1, -1),))
    with pytest.raises(OnnxModelInvalid) as raised:
        OnnxTensors(model.SerializeToString(), signature).predict({"x": np.ones((1, 2), np.float32)})
    assert "cannot answer" in raised.value.detail


# What is in a file


def branch(name: str) -> Any:
    value = helper.make_tensor_value_info(name, FLOAT, [1])
    constant = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.ones(1, np.float32)))
    return helper.make_graph([constant], name, [], [value])


def branching() -> Any:
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch("a"), else_branch=branch("b"))
    return made([node], [("x", BOOL, [])], [("y", FLOAT, [1])])


def looping() -> Any:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("c", BOOL, [])],
        [helper.make_tensor_value_info("d", BOOL, [])],
    )
    loop = helper.make_node("Loop", ["", "x"], [], body=body)
    return made([loop, helper.make_node("Not", ["x"], ["y"])], [("x", BOOL, [])], [("y", BOOL, [])])


def with_function() -> Any:
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    twice = helper.make_function("mine", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    node = helper.make_node("Twice", ["x"], ["y"], domain="mine")
    inputs = [("x", FLOAT, ["n", 2])]
    opsets = [helper.make_opsetid("mine", 1)]
    return made([node], inputs, [("y", FLOAT, ["n", 2])], functions=[twice], opsets=opsets)


def elsewhere(*, deep: bool = False) -> Any:
    model = branching() if deep else scaled()
    constant = model.graph.node[0].attribute[0].g.node[0].attribute[0].t if deep else model.graph.initializer[0]
    constant.data_location = TensorProto.EXTERNAL
    entry = constant.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"
    return model


def test_a_plain_model_may_run_among_others() -> None:
    assert unplain(scaled().SerializeToString()) == ""


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (branching(), "loops or branches"),
        (looping(), "loops or branches"),
        (with_function(), "has operators that are not ONNX's own"),
        (scaled(opsets=[helper.make_opsetid("com.microsoft", 1)]), "has operators that are not ONNX's own"),
    ],
)
def test_what_may_loop_or_is_not_onnxs_own_runs_elsewhere(model: Any, why: str) -> None:
    assert unplain(model.SerializeToString()) == why


def test_a_graph_that_hides_in_an_attribute_is_seen() -> None:
    model = scaled()
    model.graph.node[0].attribute.append(helper.make_attribute("any", branch("a")))
    assert unplain(model.SerializeToString()) == "has a graph within its graph"
    model = scaled()
    model.graph.node[0].attribute.append(helper.make_attribute("any", [branch("a")]))
    assert unplain(model.SerializeToString()) == "has a graph within its graph"


def nested(depth: int) -> bytes:
    graph = branch("a")
    for _ in range(depth):
        node = helper.make_node("Any", [], ["y"])
        node.attribute.append(helper.make_attribute("any", graph))
        graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", FLOAT, [1])])
    return bytes(helper.make_model(graph, ir_version=10).SerializeToString())


GOOD = scaled().SerializeToString()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95.",
        b"PK\x03\x04" + b"\0" * 26,
        b"\0\0\0\0ORTM" + b"\0" * 40,
        b"not a model",
        GOOD[: len(GOOD) // 2],
        GOOD[:-1],
        GOOD + b"\xff",
        GOOD + GOOD,
        GOOD + b"\x0b",  # a group begins
        GOOD + b"\x3a\xff\xff\xff\xff\x0f",
        onnx.ModelProto(ir_version=10).SerializeToString(),
        onnx.ModelProto(graph=scaled().graph).SerializeToString(),
        made([], [("x", FLOAT, [1])], []).SerializeToString(),
        elsewhere().SerializeToString(),
        elsewhere(deep=True).SerializeToString(),
        nested(MAX_DEPTH),
        b"\x38\x01" + GOOD,  # the graph as a number
    ],
)
def test_what_is_no_whole_model_is_refused(content: bytes) -> None:
    with pytest.raises(OnnxOutside):
        unplain(content)


def test_a_file_of_millions_of_parts_is_not_walked_for_ever() -> None:
    with pytest.raises(OnnxOutside) as raised:
        unplain(GOOD + b"\x30\x01" * MAX_PARTS)
    assert raised.value.detail == f"The model has more than {MAX_PARTS} parts."


def test_numbers_and_words_of_forests_are_stepped_over() -> None:
    model = scaled()
    words = [b"BRANCH_LEQ", b"LEAF"] * 100_000
    for name, values in (("i", list(range(300_000))), ("f", [0.5] * 300_000), ("w", words), ("n", [-1] * 100_000)):
        model.graph.node[0].attribute.append(helper.make_attribute(name, values))
    content = model.SerializeToString()
    assert unplain(content) == ""  # of 800,000 fields, when MAX_PARTS are 500,000
    model.graph.node[0].attribute.append(helper.make_attribute("g", branch("a")))
    assert unplain(model.SerializeToString()) == "has a graph within its graph"
