"""Models in ONNX, run by ONNX Runtime. Serving's process imports this module and none that knows scikit-learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from kit import errors
from models import onnx_columns
from models.signature import Arrays, Columns, Prediction, Signature, require_finite
from models.tensor_signature import BYTES, AnySignature, TensorSignature, TensorSpec

MAX_REASON = 300
TENSOR_OF = {
    "number": "tensor(float)",
    "integer": "tensor(float)",
    "boolean": "tensor(float)",
    "string": "tensor(string)",
    "timestamp": "tensor(int64)",
}


ONNX_TYPES: Mapping[str, str] = {
    **{f"{kind}{bits}": f"{kind.lower()}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float",
    "FP64": "double",
    BYTES: "string",
}


LINEAR = (b"LinearClassifier", b"LinearRegressor", b"Gemm", b"MatMul")
"""Operators that add up one row by itself in another order than rows together. Such a row is asked for twice, so that
its answer is the same to the last bit whoever is answered with it: in a batch, or beside other requests."""


class OnnxModelInvalid(errors.Corrupt):
    """The bytes are not an ONNX model, or not the one that its signature describes."""


class NotText(errors.Invalid):
    """Bytes that are no UTF-8, for a model that takes strings."""


class OnnxModel:
    """An ONNX model of this platform's making: one input per column, in order; label and scores, or a value, out."""

    def __init__(self, content: bytes, signature: Signature) -> None:
        self.signature = signature
        self._session = session_of(content)
        self._is_linear = any(name in content for name in LINEAR)
        found = [node.type for node in self._session.get_inputs()]
        outputs = 2 if signature.task == "classification" else 1
        if (
            found != [TENSOR_OF[column.type] for column in signature.inputs]
            or len(self._session.get_outputs()) != outputs
        ):
            raise OnnxModelInvalid("The model's inputs or outputs are not those of its signature.")
        inputs = [node.name for node in self._session.get_inputs()]
        self._inputs = tuple(zip(inputs, signature.names, strict=True))
        as_matrix = onnx_columns.merged(content, inputs) if set(found) == {TENSOR_OF["number"]} else None
        self._takes_matrix = as_matrix is not None
        if as_matrix is not None:
            self._session = session_of(as_matrix)
        self._outputs = [node.name for node in self._session.get_outputs()]

    def predict(self, arrays: Arrays) -> Prediction:
        """The answers, one for each row."""
        if self._takes_matrix and type(arrays) is Columns:
            matrix = arrays.matrix
            if self._is_linear and len(matrix) == 1:
                labels, scores = self._answered({onnx_columns.MATRIX: np.concatenate((matrix, matrix))})
                return Prediction(labels[:1], None if scores is None else scores[:1])
            return Prediction(*self._answered({onnx_columns.MATRIX: matrix}))
        if self._is_linear and self.signature.rows_in(arrays) == 1:
            labels, scores = self._predict({name: np.repeat(array, 2, axis=0) for name, array in arrays.items()})
            return Prediction(labels[:1], None if scores is None else scores[:1])
        labels, scores = self._predict(arrays)
        return Prediction(labels, scores)

    def _predict(self, arrays: Arrays) -> tuple[NDArray[Any], NDArray[Any] | None]:
        if self._takes_matrix:
            given = {onnx_columns.MATRIX: np.concatenate([arrays[name] for _, name in self._inputs], axis=1)}
        else:
            given = {to: arrays[name] for to, name in self._inputs}
        return self._answered(given)

    def _answered(self, given: Arrays) -> tuple[NDArray[Any], NDArray[Any] | None]:
        outputs = run(self._session, self._outputs, given)
        if self.signature.task == "classification":
            # Some converters lay the labels of many rows side by side.
            labels, scores = np.ravel(outputs[0]), outputs[1]
            if self.signature.scored:
                return labels, scores
            require_finite(scores)  # nobody sees them: a label chosen among infinities would look like any other
            return labels, None
        return np.ravel(outputs[0]), None


class OnnxTensors:
    """An ONNX model whose inputs and outputs are tensors, which its signature names as it does."""

    def __init__(self, content: bytes, signature: TensorSignature) -> None:
        self.signature = signature
        self._session = session_of(content)
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name: node for node in self._session.get_outputs()}
        if inputs.keys() != set(signature.names):
            raise OnnxModelInvalid(f"The model takes {_listed(inputs)}, which are not the inputs of its signature.")
        for specs, nodes in ((signature.inputs, inputs), (signature.outputs, outputs)):
            for spec in specs:
                _require_like(spec, nodes.get(spec.name))
        self._outputs = [spec.name for spec in signature.outputs]
        self._texts = [spec.name for spec in signature.inputs if spec.datatype == BYTES]

    def predict(self, arrays: Arrays) -> Prediction:
        """The answers, whose shapes are those that the signature promises.

        Raises:
            NotText: bytes are no UTF-8, which an ONNX string is.
        """
        for name in self._texts:
            arrays = {**arrays, name: _decoded(name, arrays[name])}
        found = run(self._session, self._outputs, arrays)
        outputs = {name: _encoded(array) for name, array in zip(self._outputs, found, strict=True)}
        return self.signature.prediction_of(outputs, self.signature.rows_in(arrays))


def onnx_model(content: bytes, signature: AnySignature) -> OnnxModel | OnnxTensors:
    """Of either kind.

    Raises:
        OnnxModelInvalid: the bytes are no model, or not the one that the signature describes.
    """
    if isinstance(signature, TensorSignature):
        return OnnxTensors(content, signature)
    return OnnxModel(content, signature)


def session_of(content: bytes) -> Any:
    """What runs the model in these bytes, which hold all of it.

    Raises:
        OnnxModelInvalid: they are none.
    """
    try:
        return onnxruntime.InferenceSession(content, _options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no public base
        first = str(error).partition("\n")[0]
        raise OnnxModelInvalid(f"The bytes are not an ONNX model that can be run: {first}"[:MAX_REASON]) from error


def run(session: Any, outputs: list[str], arrays: Arrays) -> list[Any]:
    """The outputs of these names."""
    try:
        # What `session.run` asks, without the look at names that are the model's own.
        found: list[Any] = session._sess.run(outputs, arrays, None)
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise OnnxModelInvalid(f"The model cannot answer: {first}"[:MAX_REASON]) from error
    return found


def _require_like(spec: TensorSpec, node: Any) -> None:
    """A signature may promise a size where the model has any, not the other way around."""
    if node is None or node.type != f"tensor({ONNX_TYPES[spec.datatype]})" or len(node.shape) != len(spec.shape):
        has = "nothing of this name" if node is None else f"{node.type} of shape {list(node.shape)}"
        said = f"is {spec.datatype} of shape {list(spec.shape)} in the signature, and {has} in the model"
        raise OnnxModelInvalid(f"The tensor {spec.name[:100]!r} {said}."[:MAX_REASON])
    for promised, size in zip(spec.shape, node.shape, strict=True):
        if type(size) is int and promised != size:
            said = f"has the shape {list(node.shape)} in the model, and {list(spec.shape)} in the signature"
            raise OnnxModelInvalid(f"The tensor {spec.name[:100]!r} {said}."[:MAX_REASON])


def _decoded(name: str, array: NDArray[Any]) -> NDArray[Any]:
    made = np.empty(array.size, object)
    try:
        made[:] = [value.decode() for value in array.ravel().tolist()]
    except UnicodeDecodeError:
        place: errors.Place = {"pointer": "#/inputs", "detail": f"{name[:100]!r} must be UTF-8"}
        raise NotText("A string of an ONNX model is UTF-8.", errors=[place]) from None
    return made.reshape(array.shape)


def _encoded(array: Any) -> NDArray[Any]:
    """What is no tensor, but a sequence or a map, is found to fit no signature."""
    if not isinstance(array, np.ndarray):
        return np.empty((), np.void)
    if array.dtype.kind not in "OU":
        return array
    made = np.empty(array.size, object)
    made[:] = [value.encode() for value in array.ravel().tolist()]
    return made.reshape(array.shape)


def _listed(nodes: Mapping[str, Any]) -> str:
    return ", ".join(repr(name[:100]) for name in list(nodes)[:10])


def _options() -> Any:
    """One thread per call and no busy waiting: the process serves many models, and its calls are the parallel ones."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; warnings about unused initializers are of no use to anyone
    return options
