"""What can load a format, in a runner child: each of them only when a model of it comes, with the library it needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from mmap import mmap
from typing import Any

from models.runners import ModelUnloadable, Runner
from models.signature import Signature
from models.tensor_signature import AnySignature


@dataclass(frozen=True)
class Loading:
    """What a model is made of."""

    content: mmap
    """Its file, verified. What a model keeps of it is shared with every process that has it mapped."""
    signature: AnySignature
    architecture: Mapping[str, Any] | None = None


def _onnx(loading: Loading) -> Runner:
    content = bytes(loading.content)
    _of("onnx_structure").unplain(content)  # it may loop here, but its weights are in no other file
    model: Runner = _of("onnx_models").onnx_model(content, loading.signature)
    return model


def _skops(loading: Loading) -> Runner:
    if not isinstance(loading.signature, Signature):
        raise ModelUnloadable("A model of scikit-learn has a signature of columns.")
    model: Runner = _of("skops_models").SkopsModel(bytes(loading.content), loading.signature)
    return model


def _safetensors(loading: Loading) -> Runner:
    tensors = _of("safetensors_files").tensors_in(loading.content)
    model: Runner = _of("architectures").model_of(loading.architecture, tensors, loading.signature)
    return model


def _lightgbm(loading: Loading) -> Runner:
    model: Runner = _of("boosters").lightgbm_model(bytes(loading.content), loading.signature)
    return model


def _xgboost(loading: Loading) -> Runner:
    model: Runner = _of("boosters").xgboost_model(bytes(loading.content), loading.signature)
    return model


def _pt2(loading: Loading) -> Runner:
    model: Runner = _of("torch_models").TorchProgram(bytes(loading.content), loading.signature)
    return model


def _of(module: str) -> Any:
    """A module of ours with its library, which nobody waits for who does not need it."""
    return import_module(f"models.{module}")


RUNTIMES: Mapping[str, Callable[[Loading], Runner]] = {
    "onnx": _onnx,
    "skops": _skops,
    "safetensors": _safetensors,
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "pt2": _pt2,
}
NEEDS: Mapping[str, tuple[str, str]] = {
    "skops": ("skops", "trainyard-serving[skops]"),
    "lightgbm": ("lightgbm", "lightgbm>=4.7,<5"),
    "xgboost": ("xgboost", "xgboost-cpu>=3.2,<4"),
    "pt2": ("torch", "torch==2.13.0"),
}
"""The module that a format needs beside the usual ones, and what to install for it."""


def formats_here() -> tuple[str, ...]:
    """What this installation can load."""
    return tuple(name for name in RUNTIMES if name not in NEEDS or find_spec(NEEDS[name][0]) is not None)


def lacking(name: str) -> str:
    """What to do where a format cannot be loaded."""
    if name not in NEEDS:
        return f"Models in the format {name[:50]!r} are not served."
    module, wanted = NEEDS[name]
    said = f"This server has no {module}, which a model in the format {name} needs: install {wanted!r} beside it"
    if name == "skops":
        return f"{said}, or use the image `serving`, not `serving-onnx`; this version has no exact ONNX twin."
    return f"{said}."


def load(name: str, loading: Loading) -> Runner:
    """The model in a file of this format.

    Raises:
        errors.Corrupt: it is none, or not the one that its signature describes, or nothing here can load it.
    """
    runtime = RUNTIMES.get(name)
    if runtime is None or name not in formats_here():
        raise ModelUnloadable(lacking(name))
    return runtime(loading)
