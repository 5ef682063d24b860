"""Files of weights, of LightGBM and of XGBoost by their structure."""

import math
import re
from typing import Any, BinaryIO

from registry.domain.documents import document_of
from registry.domain.findings import Wrong

LONGEST_HEADER = 16 << 20
"""Bytes of a header of safetensors that are read."""
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    "F4": 4,
}
_FIRST = frozenset((b"learner", b"version", b"Config", b"Model"))
_LENGTHS = {b"i": (1, True), b"U": (1, False), b"I": (2, True), b"l": (4, True), b"L": (8, True)}
_JSON_HEAD = re.compile(rb'\s*\{\s*"(?:learner|version|Config|Model)"\s*:')
_LIGHTGBM = re.compile(rb"tree\r?\nversion=v[0-9]{1,3}\r?\n")


def check_safetensors(file: BinaryIO, size: int) -> None:
    """
    Raises:
        Wrong: it is none, or its tensors and its bytes are not the same.
    """
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or not 2 <= length <= min(size - 8, LONGEST_HEADER):
        raise Wrong(f"it does not begin with the length of a header, which may have {LONGEST_HEADER} bytes")
    raw = file.read(length)
    if not raw.startswith(b"{"):
        raise Wrong("its header is no JSON")
    header = document_of(raw, "its header", _once)
    header.pop("__metadata__", None)
    if not header:
        raise Wrong("it has no tensors")
    _check_spans([_span(tensor) for tensor in header.values()], size - 8 - length)


def _span(tensor: Any) -> tuple[int, int]:
    """Where a tensor's bytes begin and end; they are as many as its shape has."""
    try:
        bits, shape, (start, end) = _BITS[tensor["dtype"]], tensor["shape"], tensor["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise Wrong("a tensor has no known dtype, shape and data_offsets") from None
    if not isinstance(shape, list) or len(shape) > 32 or not all(_is_length(number) for number in (*shape, start, end)):
        raise Wrong("a tensor's shape and data_offsets are whole numbers")
    if (end - start) * 8 != math.prod(shape) * bits:
        raise Wrong("a tensor has another number of bytes than its shape says")
    return start, end


def _is_length(number: object) -> bool:
    return type(number) is int and 0 <= number < 1 << 48


def _check_spans(spans: list[tuple[int, int]], size: int) -> None:
    at = 0
    for start, end in sorted(spans):
        if start != at:
            raise Wrong("its tensors overlap, or leave gaps")
        at = end
    if at != size:
        raise Wrong("it has more or fewer bytes than its tensors, or is cut off")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name is there twice")
    return members


def check_lightgbm(file: BinaryIO, size: int) -> None:
    """
    Raises:
        Wrong: it is not the text that `Booster.save_model` writes.
    """
    head = file.read(1 << 16)
    if not _LIGHTGBM.match(head) or b"\0" in head or b"\nnum_class=" not in head or b"\nmax_feature_idx=" not in head:
        raise Wrong("it does not begin as the text of Booster.save_model does")
    file.seek(max(0, size - (1 << 16)))
    tail = file.read(1 << 16)
    if b"\0" in tail or not tail.rstrip().endswith((b"]", b"null", b"end of parameters", b"end of trees", b"}")):
        raise Wrong("it does not end as the text of Booster.save_model does, or is cut off")


def check_xgboost(file: BinaryIO, size: int) -> None:
    """
    Raises:
        Wrong: it is neither of the two that `Booster.save_model` writes: JSON or Universal Binary JSON.
    """
    head = file.read(256)
    file.seek(max(0, size - 64))
    if not file.read(64).rstrip().endswith(b"}"):
        raise Wrong("it does not end as JSON or UBJSON do, or is cut off")
    if not _JSON_HEAD.match(head) and _first_of_ubjson(head) not in _FIRST:
        raise Wrong("it is neither JSON nor UBJSON of Booster.save_model; name the file .json or .ubj when you save it")


def _first_of_ubjson(head: bytes) -> bytes | None:
    """The name of the first member of an object."""
    if head[:1] != b"{" or head[1:2] not in _LENGTHS:
        return None
    width, signed = _LENGTHS[head[1:2]]
    start = 2 + width
    length = int.from_bytes(head[2:start], "big", signed=signed)
    return head[start : start + length] if 0 < length < 64 else None
