"""Models in ONNX, run by ONNX Runtime. Serving's process imports this module and none that knows scikit-learn."""

from typing import Any

import numpy as np
import onnxruntime

from kit import errors
from models.signature import Arrays, Prediction, Signature

MAX_REASON = 300
TENSOR_OF = {
    "number": "tensor(float)",
    "integer": "tensor(float)",
    "boolean": "tensor(float)",
    "string": "tensor(string)",
    "timestamp": "tensor(int64)",
}


class OnnxModelInvalid(errors.Corrupt):
    """The bytes are not an ONNX model, or not the one that its signature describes."""


class OnnxModel:
    """An ONNX model of this platform's making: one input per column, in order; label and scores, or a value, out."""

    def __init__(self, content: bytes, signature: Signature) -> None:
        self.signature = signature
        try:
            self._session = onnxruntime.InferenceSession(content, _options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exceptions have no public base
            raise OnnxModelInvalid("The bytes are not an ONNX model that can be run.") from error
        found = [node.type for node in self._session.get_inputs()]
        outputs = 2 if signature.task == "classification" else 1
        if (
            found != [TENSOR_OF[column.type] for column in signature.inputs]
            or len(self._session.get_outputs()) != outputs
        ):
            raise OnnxModelInvalid("The model's inputs or outputs are not those of its signature.")
        self._inputs = tuple(zip((node.name for node in self._session.get_inputs()), signature.names, strict=True))

    def predict(self, arrays: Arrays) -> Prediction:
        """The answers, one for each row."""
        try:
            outputs: list[Any] = self._session.run(None, {to: arrays[name] for to, name in self._inputs})
        except Exception as error:
            first = str(error).partition("\n")[0]
            raise OnnxModelInvalid(f"The model cannot answer: {first}"[:MAX_REASON]) from error
        if self.signature.task == "classification":
            return Prediction(outputs[0], outputs[1])
        return Prediction(np.ravel(outputs[0]), None)


def _options() -> Any:
    """One thread per call and no busy waiting: the process serves many models, and its calls are the parallel ones."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; warnings about unused initializers are of no use to anyone
    return options
