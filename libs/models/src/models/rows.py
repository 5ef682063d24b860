"""Rows of JSON, or tensors, become a model's input arrays: checked against the signature, column by column.

This is the hot part of a prediction, so a good request is converted in a few passes per column, and only a bad one is
walked again, value by value, to name each mistake with its JSON pointer.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit import errors
from models import numbers, tensor_rows
from models.signature import MISSING_TIME, Arrays, Columns, Signature
from models.tensor_signature import AnySignature, TensorSignature

MAX_ROWS = tensor_rows.MAX_ROWS  # of one request: reading and answering them takes a fraction of a second
MAX_ELEMENTS = 1_000_000
MAX_STRING = 4096  # bytes of UTF-8
MAX_ERRORS = 20
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FLOAT32_MAX = float(np.finfo(np.float32).max)
SMALL_SQUARES = 1e76  # a sum of squares below this holds no NaN and nothing above 1e38


class RowsInvalid(errors.Invalid):
    """The rows do not fit the model's signature."""


def arrays_of(signature: AnySignature, body: Mapping[str, Any], *, are_numbers: bool = False) -> Arrays:
    """From `{"rows": [{column: value}]}` or `{"columns": [column], "rows": [[value]]}`, as `predict` takes them.

    A row of a model of tensors is what `tensor_rows` says. `are_numbers`: it was seen that there is no text, truth or
    null in rows that are arrays.
    """
    rows = body.get("rows")
    if isinstance(signature, TensorSignature):
        if "columns" in body:
            raise _invalid("A model of tensors has no columns.", "#/columns", "must not be there")
        return tensor_rows.arrays_of_rows(signature, rows, are_numbers=are_numbers)
    if type(rows) is not list or not rows:
        raise _invalid("A request needs rows.", "#/rows", "must be an array with at least one row")
    _require_size(len(rows), signature, "#/rows")
    if signature.are_numbers and (made := _plain(signature, body.get("columns"), rows, are_numbers)) is not None:
        return made
    if "columns" in body:
        return _arrays(signature, _columns_of_arrays(signature, body["columns"], rows))
    return _arrays(signature, _columns_of_objects(signature, rows))


def arrays_of_tensors(signature: AnySignature, tensors: Mapping[str, NDArray[Any]]) -> Arrays:
    """From one tensor per input of shape [rows] or [rows, 1], as the Open Inference Protocol brings them.

    Numbers may be of any numeric type, NaN says missing; strings are `str` or UTF-8 bytes; timestamps are int64
    microseconds since 1970. Of a model of tensors they are just what its signature says.
    """
    if isinstance(signature, TensorSignature):
        return tensor_rows.arrays_of_tensors(signature, tensors)
    _require_names(signature, tensors.keys(), "#/inputs")
    arrays: Arrays = {}
    rows = tensors[signature.names[0]].shape[0] if tensors[signature.names[0]].ndim else 0
    _require_size(rows, signature, "#/inputs")
    for column in signature.inputs:
        tensor = tensors[column.name]
        pointer = f"#/inputs/{_escaped(column.name)}"
        if tensor.shape not in ((rows,), (rows, 1)) or not rows:
            raise _invalid("Tensors do not fit together.", pointer, "must have the shape [rows] or [rows, 1]")
        try:
            array = _TENSOR[column.type](tensor.reshape(rows, 1))
        except (ValueError, TypeError, OverflowError) as error:
            raise _invalid("A tensor does not fit the signature.", pointer, str(error)) from error
        if not column.nullable and _missing(array).any():
            raise _invalid("A tensor does not fit the signature.", pointer, "must not have missing values")
        arrays[column.name] = array
    return arrays


def _plain(signature: Signature, columns: Any, rows: list[Any], are_numbers: bool) -> Columns | None:
    """Rows of nothing but numbers that float32 holds, with the model's columns in order, in one pass; None: they are
    not, which is not to say that they are wrong."""
    names, kinds = signature.listed, set(map(type, rows))
    if columns is None and kinds == {dict} and set(map(len, rows)) == {len(names)}:
        try:
            rows, are_numbers = [[row[name] for name in names] for row in rows], False
        except KeyError:
            return None
    elif columns != names or kinds != {list}:
        return None
    matrix = numbers.matrix_of(rows, len(names), are_numbers=are_numbers)
    if matrix is None:
        return None
    flat = matrix.reshape(-1)
    if not float(np.dot(flat, flat)) < SMALL_SQUARES:
        return None
    return Columns(signature.names, matrix.astype(np.float32))


def _columns_of_objects(signature: Signature, rows: list[Any]) -> list[list[Any]]:
    width = len(signature.inputs)
    try:
        if all(type(row) is dict and len(row) == width for row in rows):
            return [[row[name] for row in rows] for name in signature.names]
    except KeyError:
        pass  # some row has another column: said below, with its place
    places: list[errors.Place] = []
    known = set(signature.names)
    for index, row in enumerate(rows):
        if type(row) is not dict:
            places.append({"pointer": f"#/rows/{index}", "detail": "must be an object"})
            continue
        places += [_place(index, name, "is missing") for name in signature.names if name not in row]
        places += [_place(index, name, "is not a column of this model") for name in row if name not in known]
        if len(places) >= MAX_ERRORS:
            break
    raise RowsInvalid("Rows and the model's columns differ.", errors=places[:MAX_ERRORS])


def _columns_of_arrays(signature: Signature, columns: Any, rows: list[Any]) -> list[list[Any]]:
    if type(columns) is not list or not all(type(name) is str for name in columns):
        raise _invalid("Columns are not understood.", "#/columns", "must be an array of names")
    _require_names(signature, columns, "#/columns")
    width = len(columns)
    places: list[errors.Place] = [
        {"pointer": f"#/rows/{index}", "detail": f"must be an array of {width} values"}
        for index, row in enumerate(rows)
        if type(row) is not list or len(row) != width
    ]
    if places:
        raise RowsInvalid("Rows and columns differ.", errors=places[:MAX_ERRORS])
    by_name = dict(zip(columns, zip(*rows, strict=True), strict=True))
    return [list(by_name[name]) for name in signature.names]


def _arrays(signature: Signature, columns: list[list[Any]]) -> Arrays:
    arrays: Arrays = {}
    numeric: dict[str, list[Any]] = {}
    for column, values in zip(signature.inputs, columns, strict=True):
        kinds = set(map(type, values))
        if column.nullable:
            kinds.discard(type(None))
        if not kinds <= _KINDS[column.type]:
            return _closely(signature, columns)
        if column.type == "string":
            array = _texts(values)
        elif column.type == "timestamp":
            array = _times(values)
        else:
            numeric[column.name] = values
            continue
        if array is None:
            return _closely(signature, columns)
        arrays[column.name] = array
    if numeric:
        matrix = _numbers(list(numeric.values()))
        if matrix is None:
            return _closely(signature, columns)
        arrays.update(zip(numeric, matrix[:, :, None], strict=True))
    return arrays


def _closely(signature: Signature, columns: list[list[Any]]) -> Arrays:
    """Value by value: something is wrong, or is only unusual, as an integer written 5.0 is."""
    places: list[errors.Place] = []
    converted: list[list[Any]] = []
    for column, values in zip(signature.inputs, columns, strict=True):
        convert, good = _ONE[column.type], list(values)
        for index, value in enumerate(values):
            if value is None and column.nullable:
                continue
            try:
                good[index] = convert(value)
            except ValueError as error:
                places.append(_place(index, column.name, str(error)))
                if len(places) == MAX_ERRORS:
                    raise _misfits(places) from None
        converted.append(good)
    if places:
        raise _misfits(places)
    return _arrays(signature, converted)


def _misfits(places: list[errors.Place]) -> RowsInvalid:
    return RowsInvalid("Values do not fit the model's signature.", errors=places)


def _numbers(columns: list[list[Any]]) -> NDArray[np.float32] | None:
    """All numeric columns in one pass, [columns, rows]; None when a value is NaN or more than float32 holds."""
    try:
        matrix = np.array(columns, np.float64)
    except OverflowError:  # an integer of hundreds of digits
        return None
    flat = matrix.reshape(-1)
    if float(np.dot(flat, flat)) < SMALL_SQUARES:  # one call answers for nearly every request
        return matrix.astype(np.float32)
    gaps = np.isnan(matrix)
    if int(gaps.sum()) != sum(values.count(None) for values in columns):
        return None
    if not (np.abs(np.where(gaps, 0, matrix)) <= FLOAT32_MAX).all():
        return None
    return matrix.astype(np.float32)


def _texts(values: list[Any]) -> NDArray[Any] | None:
    texts = ["" if value is None else value for value in values]
    if any(len(text) > MAX_STRING // 4 or "\0" in text for text in texts) and not all(map(_is_text, texts)):
        return None
    array = np.empty((len(texts), 1), object)
    array[:, 0] = texts
    return array


def _times(values: list[Any]) -> NDArray[Any] | None:
    try:
        times = [MISSING_TIME if value is None else _time(value) for value in values]
    except ValueError:
        return None
    return np.array(times, np.int64).reshape(-1, 1)


def _number(value: Any) -> int | float:
    if type(value) not in (int, float):
        raise ValueError("must be a number" if value is not None else "must not be null")
    if not -FLOAT32_MAX <= value <= FLOAT32_MAX:  # NaN too
        raise ValueError("must be a number that float32 holds")
    return value  # type: ignore[no-any-return]  # its type was compared above


def _integer(value: Any) -> int:
    """JSON has one kind of number: 5.0 is an integer."""
    if value is not None and (type(value) not in (int, float) or (type(value) is float and not value.is_integer())):
        raise ValueError("must be an integer")
    return int(_number(value))


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false" if value is not None else "must not be null")
    return value


def _is_text(value: str) -> bool:
    return len(value) <= MAX_STRING and "\0" not in value and len(value.encode(errors="replace")) <= MAX_STRING


def _string(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("must be a string" if value is not None else "must not be null")
    if not _is_text(value):
        raise ValueError(f"must be at most {MAX_STRING} bytes, without NUL")
    return value


def _time(value: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time; without an offset it is read as UTC, as ingest does."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a time such as 2013-01-31T05:00:00Z") from None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND


def _timestamp(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("must be a time such as 2013-01-31T05:00:00Z" if value is not None else "must not be null")
    _time(value)
    return value


def _tensor_numbers(tensor: NDArray[Any]) -> NDArray[Any]:
    if tensor.dtype.kind not in "fiu":
        raise TypeError("must be a tensor of numbers")
    with np.errstate(over="ignore"):
        array = tensor.astype(np.float32)
    if np.isinf(array).any():
        raise ValueError("must be numbers that float32 holds")
    return array


def _tensor_integers(tensor: NDArray[Any]) -> NDArray[Any]:
    array = _tensor_numbers(tensor)
    if tensor.dtype.kind == "f" and (np.nan_to_num(array) % 1 != 0).any():
        raise ValueError("must be integers")
    return array


def _tensor_booleans(tensor: NDArray[Any]) -> NDArray[Any]:
    array = tensor.astype(np.float32) if tensor.dtype.kind == "b" else _tensor_numbers(tensor)
    if not np.isin(array, (0, 1)).all() and not (np.isin(array, (0, 1)) | np.isnan(array)).all():
        raise ValueError("must be booleans, or 0 and 1")
    return array


def _tensor_strings(tensor: NDArray[Any]) -> NDArray[Any]:
    if tensor.dtype.kind not in "OSU":
        raise TypeError("must be a tensor of strings")
    values = [value.decode() if isinstance(value, bytes) else value for value in tensor[:, 0].tolist()]
    array = np.empty(tensor.shape, object)
    array[:, 0] = [_string(value) for value in values]
    return array


def _tensor_times(tensor: NDArray[Any]) -> NDArray[Any]:
    if tensor.dtype != np.int64:
        raise TypeError("must be an int64 tensor of microseconds since 1970")
    return tensor


def _missing(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values of a numeric or time array are missing; an empty string is a string."""
    gaps: NDArray[np.bool_] = np.zeros(array.shape, bool)
    if array.dtype == np.float32:
        gaps = np.isnan(array)
    elif array.dtype == np.int64:
        gaps = array == MISSING_TIME
    return gaps


def _require_size(rows: int, signature: Signature, pointer: str) -> None:
    if rows > MAX_ROWS:
        raise _invalid(f"A request may have {MAX_ROWS} rows at most.", pointer, f"{rows} rows are more than {MAX_ROWS}")
    for count, what in ((len(signature.inputs), "columns"), (len(signature.classes), "classes")):
        if rows * count > MAX_ELEMENTS:
            said = f"{rows} rows of {count} {what} are more than {MAX_ELEMENTS} values"
            raise _invalid(f"A request may have {MAX_ELEMENTS} values at most.", pointer, said)


def _require_names(signature: Signature, names: Sequence[str] | Any, pointer: str) -> None:
    given = list(names)
    known = set(signature.names)
    details = [f"{name!r} is missing" for name in signature.names if name not in given]
    details += [f"{name!r} is not a column of this model" for name in given if name not in known]
    details += ["names a column twice"] if len(set(given)) != len(given) else []
    if details:
        places: list[errors.Place] = [{"pointer": pointer, "detail": detail} for detail in details[:MAX_ERRORS]]
        raise RowsInvalid("Columns and the model's columns differ.", errors=places)


def _invalid(detail: str, pointer: str, place: str) -> RowsInvalid:
    return RowsInvalid(detail, errors=[{"pointer": pointer, "detail": place}])


def _place(index: int, name: str, detail: str) -> errors.Place:
    return {"pointer": f"#/rows/{index}/{_escaped(name)}", "detail": detail}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


_KINDS: dict[str, set[type]] = {
    "number": {int, float},
    "integer": {int},
    "boolean": {bool},
    "string": {str},
    "timestamp": {str},
}
_ONE: dict[str, Callable[[Any], Any]] = {
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "string": _string,
    "timestamp": _timestamp,
}
_TENSOR: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "number": _tensor_numbers,
    "integer": _tensor_integers,
    "boolean": _tensor_booleans,
    "string": _tensor_strings,
    "timestamp": _tensor_times,
}
