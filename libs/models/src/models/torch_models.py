"""Programs of torch.export, run by torch, which is imported only where one is loaded."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import torch_files
from models.runners import ModelUnloadable
from models.signature import Arrays, Prediction
from models.tensor_signature import BYTES, AnySignature, TensorSignature

MAX_REASON = 300


class TorchProgram:
    """One of them. It takes its signature's inputs in their order, and gives a tensor, several, or a dict by name."""

    def __init__(self, content: bytes, signature: AnySignature) -> None:
        if not isinstance(signature, TensorSignature) or BYTES in {
            it.datatype for it in (*signature.inputs, *signature.outputs)
        }:
            raise ModelUnloadable("A program of torch.export takes and gives tensors of numbers.")
        self.signature = signature
        torch: Any = import_module("torch")
        self._torch = torch
        torch.set_num_threads(1)
        try:
            self._module: Any = torch.export.load(torch_files.harmless(content)).module()
        except ModelUnloadable:
            raise
        except Exception as error:  # whatever reading a damaged program may raise
            first = str(error).strip().partition("\n")[0]
            raise ModelUnloadable(f"torch cannot read the program: {first}"[:MAX_REASON]) from error

    def predict(self, arrays: Arrays) -> Prediction:
        """The answers, whose shapes are those that the signature promises."""
        torch = self._torch
        given = [torch.from_numpy(_own(arrays[name])) for name in self.signature.names]
        try:
            with torch.inference_mode():
                found = self._module(*given)
        except MemoryError:
            raise
        except Exception as error:  # an operator may raise anything
            first = str(error).strip().partition("\n")[0]
            raise ModelUnloadable(f"The model cannot answer: {first}"[:MAX_REASON]) from error
        return self.signature.prediction_of(self._by_name(found), self.signature.rows_in(arrays))

    def _by_name(self, found: Any) -> Mapping[str, NDArray[Any]]:
        names = [spec.name for spec in self.signature.outputs]
        if isinstance(found, dict):
            tensors: list[Any] = [found.get(name) for name in names]
        else:
            tensors = list(found) if isinstance(found, tuple | list) else [found]
        if len(tensors) != len(names) or not all(isinstance(it, self._torch.Tensor) for it in tensors):
            raise ModelUnloadable("The program does not give as many tensors as its signature says.")
        return {name: tensor.detach().numpy() for name, tensor in zip(names, tensors, strict=True)}


def _own(array: NDArray[Any]) -> NDArray[Any]:
    """What came over the wire may not be written, and torch takes only what may."""
    return array if array.flags.writeable else np.array(array)
