"""What a file must be to be a model's, by its content alone. Nothing is loaded, and nothing unpickled."""

import io
from collections.abc import Callable
from typing import BinaryIO

from kit import errors
from registry.domain.archives import check_pt2, check_skops, find_pickles
from registry.domain.findings import Unsafe, Wrong
from registry.domain.manifests import File
from registry.domain.onnx_files import check_onnx
from registry.domain.pickles import unsafe_kind
from registry.domain.weights import check_lightgbm, check_safetensors, check_xgboost

HEAD = 4096
"""Bytes of a file that tell pickles and their like."""
INSTEAD = (
    "Export it as one of: onnx (skl2onnx.to_onnx, torch.onnx.export, tf2onnx), skops (skops.io.dump), safetensors "
    "(safetensors.torch.save_file), pt2 (torch.export.save), lightgbm (Booster.save_model), xgboost "
    "(Booster.save_model to .ubj or .json)."
)
CHECKS: dict[str, Callable[[BinaryIO, int], None]] = {
    "onnx": check_onnx,
    "skops": check_skops,
    "pt2": check_pt2,
    "safetensors": check_safetensors,
    "lightgbm": check_lightgbm,
    "xgboost": check_xgboost,
}


class UnsafeModel(errors.Invalid): ...


class FormatMismatch(errors.Invalid): ...


def refuse_unsafe(head: bytes, name: str) -> None:
    """Refuse by its first bytes what runs code when it is loaded.

    Raises:
        UnsafeModel: it is such a file.
    """
    kind = unsafe_kind(head)
    if kind is not None:
        raise _unsafe(name, kind)


def check_content(file: File, content: BinaryIO, place: str = "#") -> None:
    """Look whether a file is of the format that its manifest says. Reads little of it, whatever its size.

    Raises:
        UnsafeModel: it is something that runs code when it is loaded.
        FormatMismatch: it is something else, or damaged.
    """
    head = content.read(HEAD)
    refuse_unsafe(head, file.path)
    try:
        if head.startswith(b"PK"):
            # Also where another format was promised: a hint at what to do is of more use than "no ONNX file".
            find_pickles(content, file.size)
        content.seek(0, io.SEEK_SET)
        CHECKS[file.format](content, file.size)
    except Unsafe as exc:
        raise _unsafe(file.path, str(exc)) from None
    except Wrong as exc:
        detail = f"{file.path} is not a model in the format {file.format}: {exc}."
        raise FormatMismatch(detail, errors=[{"pointer": f"{place}/format", "detail": str(exc)}]) from None


def _unsafe(name: str, kind: str) -> UnsafeModel:
    detail = f"{name} is {kind}: whoever loads such a file runs the code in it, so it is not taken. {INSTEAD}"
    return UnsafeModel(detail, formats=sorted(CHECKS))
