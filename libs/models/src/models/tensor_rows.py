"""JSON rows, or tensors of the protocol, become the arrays of a model of tensors: checked against its signature.

As in `rows`, a good request is converted in a few passes, and only a bad one is looked at row by row.
"""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit import errors
from models import numbers
from models.signature import Arrays
from models.tensor_signature import BYTES, DTYPES, MAX_ELEMENTS, TensorSignature, TensorSpec, elements_of

MAX_ROWS = 10_000
MAX_ERRORS = 20
FLOATS = frozenset({"FP32", "FP64"})
KINDS: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "u": frozenset({int}),
    "i": frozenset({int}),
    "f": frozenset({int, float, type(None)}),  # null: NaN, for which JSON has no number
}


class TensorsInvalid(errors.Invalid):
    """The rows or tensors do not fit the model's signature."""


def arrays_of_rows(signature: TensorSignature, rows: Any, *, are_numbers: bool = False) -> Arrays:
    """From rows, each of which is the nested array of the one input, or an object of them by the inputs' names.

    A model that is not batched takes one row, which is the whole of its inputs. `are_numbers`: there is no text,
    truth or null in rows that are arrays.
    """
    if type(rows) is not list or not rows:
        raise _invalid("A request needs rows.", "#/rows", "must be an array with at least one row")
    _require_rows(signature, len(rows), "#/rows")
    if (plain := _plain(signature, rows, are_numbers)) is not None:
        return plain
    columns = _columns_of(signature, rows)
    arrays: Arrays = {}
    total = 0
    for spec, values in zip(signature.inputs, columns, strict=True):
        try:
            array = _array(spec, values if signature.is_batched else values[0], spec.shape)
        except ValueError as error:
            raise _misfits(spec, values, signature, str(error)) from None
        total += array.size
        arrays[spec.name] = array
    _require_elements(total, "#/rows")
    return arrays


def arrays_of_tensors(signature: TensorSignature, tensors: Mapping[str, NDArray[Any]]) -> Arrays:
    """From one tensor per input, of the datatype and shape that the signature says; BYTES may be `str` too."""
    known = set(signature.names)
    details = [f"{name!r} is missing" for name in signature.names if name not in tensors]
    details += [f"{name[:100]!r} is not an input of this model" for name in tensors if name not in known]
    if details:
        places: list[errors.Place] = [{"pointer": "#/inputs", "detail": detail} for detail in details[:MAX_ERRORS]]
        raise TensorsInvalid("Tensors and the model's inputs differ.", errors=places)
    arrays: Arrays = {}
    for spec in signature.inputs:
        array, pointer = tensors[spec.name], f"#/inputs/{_escaped(spec.name)}"
        if said := spec.misfit(array):
            raise _invalid("A tensor does not fit the signature.", pointer, said)
        arrays[spec.name] = _encoded(array, pointer) if spec.datatype == BYTES else array
    _require_elements(sum(elements_of(array.shape) for array in arrays.values()), "#/inputs")
    if signature.is_batched:
        first, *others = (len(arrays[name]) for name in signature.names)
        if any(other != first for other in others):
            raise _invalid("Tensors do not fit together.", "#/inputs", "must have the same first dimension")
        _require_rows(signature, first, "#/inputs")
    return arrays


def _plain(signature: TensorSignature, rows: list[Any], are_numbers: bool) -> Arrays | None:
    """Of a model of one matrix of floats, in one pass; None: it is another, or something may be wrong."""
    spec = signature.inputs[0]
    if len(signature.names) > 1 or len(spec.shape) != 2 or spec.datatype not in FLOATS or not signature.is_batched:
        return None
    width = spec.shape[1]
    if width < 1 or len(rows) * width > MAX_ELEMENTS or set(map(type, rows)) != {list}:
        return None
    matrix = numbers.matrix_of(rows, width, are_numbers=are_numbers)
    if matrix is None:
        return None
    with np.errstate(over="ignore"):
        array = matrix.astype(spec.dtype)
    return {spec.name: array} if np.isfinite(array).all() else None


def _columns_of(signature: TensorSignature, rows: list[Any]) -> list[list[Any]]:
    """The values of each input, row by row."""
    names = signature.names
    alone = names[0] if len(names) == 1 else None
    if alone is not None and not any(type(row) is dict and alone in row for row in rows):
        return [rows]
    places: list[errors.Place] = []
    for index, row in enumerate(rows):
        if type(row) is not dict:
            places.append({"pointer": f"#/rows/{index}", "detail": "must be an object of the model's inputs"})
        elif row.keys() != set(names):
            details = [(name, "is missing") for name in names if name not in row]
            details += [(name, "is not an input of this model") for name in row if name not in names]
            places += [{"pointer": f"#/rows/{index}/{_escaped(name)[:100]}", "detail": said} for name, said in details]
        if len(places) >= MAX_ERRORS:
            break
    if places:
        raise TensorsInvalid("Rows and the model's inputs differ.", errors=places[:MAX_ERRORS])
    return [[row[name] for row in rows] for name in names]


def _array(spec: TensorSpec, nested: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """
    Raises:
        ValueError: the nested lists do not have the shape, or hold something else.
    """
    sizes: list[int] = []
    level = [nested]
    for size in shape:
        if set(map(type, level)) != {list}:
            raise ValueError(f"must be nested arrays of the shape {list(shape)}")
        lengths = set(map(len, level))
        found = lengths.pop()
        if lengths or not found:
            raise ValueError("must be nested arrays of equal lengths, and none of them empty")
        if size not in (-1, found):
            raise ValueError(f"must be nested arrays of the shape {list(shape)}")
        sizes.append(found)
        level = level[0] if len(level) == 1 else list(chain.from_iterable(level))
    return _leaves(spec, level).reshape(sizes)


def _leaves(spec: TensorSpec, values: list[Any]) -> NDArray[Any]:
    if spec.datatype == BYTES:
        array = np.empty(len(values), object)
        array[:] = list(map(_bytes, values))
        return array
    dtype = np.dtype(DTYPES[spec.datatype])
    if not set(map(type, values)) <= KINDS[dtype.kind]:
        raise ValueError(f"must be values of {spec.datatype}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype)
    except OverflowError:  # of an integer
        raise ValueError(f"must be values that {spec.datatype} holds") from None
    if dtype.kind == "f" and np.isinf(array).any():
        raise ValueError(f"must be values that {spec.datatype} holds")
    return array


def _bytes(value: Any) -> bytes:
    if type(value) is str:
        return value.encode()
    if type(value) is dict and value.keys() == {"b64"} and type(value["b64"]) is str:
        try:
            return b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError):
            pass
    raise ValueError('must be strings, or {"b64": …} with base64')


def _encoded(array: NDArray[Any], pointer: str) -> NDArray[Any]:
    made = np.empty(array.size, object)
    made[:] = [value.encode() if type(value) is str else value for value in array.ravel().tolist()]
    if not set(map(type, made)) <= {bytes}:
        raise _invalid("A tensor does not fit the signature.", pointer, "must be bytes")
    return made.reshape(array.shape)


def _misfits(spec: TensorSpec, values: list[Any], signature: TensorSignature, detail: str) -> TensorsInvalid:
    """Which rows they are, if it is seen in single ones."""
    end = f"/{_escaped(spec.name)}" if len(signature.inputs) > 1 else ""
    places: list[errors.Place] = []
    shape = spec.shape[1:] if signature.is_batched else spec.shape
    for index, value in enumerate(values):
        try:
            _array(spec, value, shape)
        except ValueError as error:
            places.append({"pointer": f"#/rows/{index}{end}", "detail": str(error)})
            if len(places) == MAX_ERRORS:
                break
    return TensorsInvalid(
        "Values do not fit the model's signature.", errors=places or [{"pointer": "#/rows", "detail": detail}]
    )


def _require_rows(signature: TensorSignature, rows: int, pointer: str) -> None:
    if not rows:
        raise _invalid("A request needs rows.", pointer, "must have at least one row")
    if rows > MAX_ROWS:
        raise _invalid(f"A request may have {MAX_ROWS} rows at most.", pointer, f"{rows} rows are more than {MAX_ROWS}")
    if rows > 1 and not signature.is_batched:
        raise _invalid("This model is not batched.", pointer, "must be one row, with the whole of the model's inputs")


def _require_elements(total: int, pointer: str) -> None:
    if total > MAX_ELEMENTS:
        said = f"{total} elements are more than {MAX_ELEMENTS}"
        raise _invalid(f"A request may have {MAX_ELEMENTS} elements at most.", pointer, said)


def _invalid(detail: str, pointer: str, place: str) -> TensorsInvalid:
    return TensorsInvalid(detail, errors=[{"pointer": pointer, "detail": place}])


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
