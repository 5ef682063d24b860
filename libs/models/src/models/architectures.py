"""What a file of weights is a model of: the registered architectures, computed in float32.

    linear  {"name": "linear", "inputs": n, "outputs": k, "output": …}
            weight [k, n], bias [k]: output(x · weightᵀ + bias)
    mlp     {"name": "mlp", "sizes": [n, …, k], "activation": "relu" | "tanh" | "sigmoid", "output": …}
            layers.i.weight [sizes[i + 1], sizes[i]], layers.i.bias [sizes[i + 1]]: the activation follows every
            layer but the last, which `output` follows

`output` is "none" (the default), "softmax" or "sigmoid". Exactly these tensors are demanded, all of them F32.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.matrix_models import Function, MatrixModel
from models.runners import ModelUnloadable
from models.tensor_signature import AnySignature

MAX_LAYERS = 64
MAX_WIDTH = 1 << 20
Floats = NDArray[np.float32]
Layer = tuple[Floats, Floats]  # the weight, turned, and the bias


def _none(values: Floats) -> Floats:
    return values


def _relu(values: Floats) -> Floats:
    return np.maximum(values, 0, out=values)


def _tanh(values: Floats) -> Floats:
    return np.tanh(values, out=values)


def _sigmoid(values: Floats) -> Floats:
    with np.errstate(over="ignore"):  # of exp(large): the answer is 0
        return np.reciprocal(np.exp(-values) + np.float32(1))


def _softmax(values: Floats) -> Floats:
    values -= values.max(axis=1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=1, keepdims=True)
    return values


ACTIVATIONS: Mapping[str, Callable[[Floats], Floats]] = {"relu": _relu, "tanh": _tanh, "sigmoid": _sigmoid}
OUTPUTS: Mapping[str, Callable[[Floats], Floats]] = {"none": _none, "softmax": _softmax, "sigmoid": _sigmoid}


def model_of(
    architecture: Mapping[str, Any] | None, tensors: Mapping[str, NDArray[Any]], signature: AnySignature
) -> MatrixModel:
    """A model of a registered architecture with these weights.

    Raises:
        ModelUnloadable: there is no such architecture, or the tensors or the signature are not its.
    """
    said = dict(architecture or {})
    make = REGISTERED.get(said.pop("name", None))
    if make is None:
        raise ModelUnloadable(f"parameters.architecture.name must be one of {', '.join(REGISTERED)}.")
    output = _chosen(said.pop("output", "none"), OUTPUTS, "output")
    sizes, activation, layers = make(said, tensors)
    if said:
        raise ModelUnloadable(f"The architecture has unknown members: {', '.join(map(repr, list(said)[:5]))}"[:300])
    function = _function(layers, activation, output)
    return MatrixModel(function, signature, features=sizes[0], answers=sizes[-1])


def _function(layers: list[Layer], activation: Callable[[Floats], Floats], output: Any) -> Function:
    def forward(matrix: NDArray[Any]) -> NDArray[Any]:
        values: Floats = matrix.astype(np.float32, copy=False)
        for weight, bias in layers[:-1]:
            values = activation(values @ weight + bias)
        weight, bias = layers[-1]
        made: Floats = output(values @ weight + bias)
        return made

    return forward


Made = tuple[list[int], Callable[[Floats], Floats], list[Layer]]


def _linear(said: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Made:
    sizes = _sizes([said.pop("inputs", None), said.pop("outputs", None)])
    return sizes, _none, _layers(sizes, tensors, [""])


def _mlp(said: dict[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Made:
    sizes = _sizes(said.pop("sizes", None))
    activation = _chosen(said.pop("activation", "relu"), ACTIVATIONS, "activation")
    return sizes, activation, _layers(sizes, tensors, [f"layers.{it}." for it in range(len(sizes) - 1)])


REGISTERED: Mapping[str, Callable[[dict[str, Any], Mapping[str, NDArray[Any]]], Made]] = {
    "linear": _linear,
    "mlp": _mlp,
}


def _sizes(given: Any) -> list[int]:
    if not isinstance(given, list) or not 2 <= len(given) <= MAX_LAYERS + 1:
        raise ModelUnloadable(f"An architecture has 1 to {MAX_LAYERS} layers.")
    if any(type(size) is not int or not 1 <= size <= MAX_WIDTH for size in given):
        raise ModelUnloadable(f"A layer has 1 to {MAX_WIDTH} values.")
    return given


def _chosen(name: Any, known: Mapping[str, Any], what: str) -> Any:
    if not isinstance(name, str) or name not in known:
        raise ModelUnloadable(f"The architecture's {what} must be one of {', '.join(known)}.")
    return known[name]


def _layers(sizes: list[int], tensors: Mapping[str, NDArray[Any]], places: list[str]) -> list[Layer]:
    expected: dict[str, tuple[int, ...]] = {}
    for index, place in enumerate(places):
        expected |= {f"{place}weight": (sizes[index + 1], sizes[index]), f"{place}bias": (sizes[index + 1],)}
    for name in expected.keys() ^ tensors.keys():
        said = "is missing" if name in expected else "is none of this architecture's"
        raise ModelUnloadable(f"The tensor {name[:100]!r} {said}.")
    for name, shape in expected.items():
        if tensors[name].shape != shape or tensors[name].dtype != np.float32:
            raise ModelUnloadable(f"The tensor {name!r} must be F32 of shape {list(shape)}.")
    return [(tensors[f"{place}weight"].T, tensors[f"{place}bias"]) for place in places]
