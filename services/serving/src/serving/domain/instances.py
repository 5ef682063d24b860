"""Requests of KServe V1 and of MLflow's scoring server, as the rows that `predict` takes.

Both are looser than ours: rows may be arrays in the order of the model's columns, and of one column the values alone.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from kit import errors
from models import rows
from models.signature import Arrays
from models.tensor_signature import AnySignature, TensorSignature

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
"""In which MLflow takes JSON: one of them a request."""
MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null"})
"""What a CSV says where a number, a truth or a time is missing. In a column of texts only nothing at all says that."""
TRUTHS: Mapping[str, bool] = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}
LONGEST_INTEGER = 20
"""Characters: of more no integer is made, which would take its time and be none that a model takes."""


class InstancesInvalid(errors.Invalid):
    """A request of KServe V1, or of MLflow, that cannot be read."""


def arrays_of_v1(signature: AnySignature, document: Any) -> Arrays:
    """Of `{"instances": […]}`. A `signature_name` says nothing here, where a model has one.

    Raises:
        InstancesInvalid, rows.RowsInvalid: it is no such request, or does not fit the model.
    """
    _require_members(document, ("instances", "signature_name"))
    return _of_list(signature, document.get("instances"), "#/instances")


def arrays_of_mlflow(signature: AnySignature, document: Any) -> Arrays:
    """Of one of MLflow's four forms of JSON.

    Raises:
        InstancesInvalid, rows.RowsInvalid: it is none of them, or does not fit the model.
    """
    _require_members(document, (*FORMS, "params"))
    if document.get("params"):
        raise _wrong("#/params", "must be empty: models here take none")
    given = [form for form in FORMS if form in document]
    if len(given) != 1:
        raise _wrong("#", f"must have exactly one of {', '.join(FORMS)}")
    [form] = given
    content, pointer = document[form], f"#/{form}"
    if form == "dataframe_split":
        return _of_split(signature, content)
    if isinstance(content, dict) and form in ("instances", "inputs"):
        return _of_columns(signature, content, pointer)
    return _of_list(signature, content, pointer)


def arrays_of_csv(signature: AnySignature, content: bytes) -> Arrays:
    """Of a CSV with the names of the columns in its first line.

    Raises:
        errors.Malformed: it is none in UTF-8.
        InstancesInvalid, rows.RowsInvalid: it does not fit the model.
    """
    if isinstance(signature, TensorSignature):
        raise _wrong("#", "a model of tensors takes no CSV")
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        # Of more lines than a request may have rows no more than one is kept.
        found = list(islice(filter(None, lines), rows.MAX_ROWS + 2))
    except (UnicodeDecodeError, csv.Error) as exc:
        raise errors.Malformed(f"The body is not a CSV: {exc}.") from None
    names = found.pop(0) if found else []
    kinds = {column.name: _READ[column.type] for column in signature.inputs}
    read = [kinds.get(name, str) for name in names]
    values = [
        [one(text) for one, text in zip(read, line, strict=True)] if len(line) == len(names) else line for line in found
    ]
    return rows.arrays_of(signature, {"columns": names, "rows": values})


def plain(answers: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Answers as both have them: objects where a model answers several things, and else the values alone."""
    if answers and len(answers[0]) == 1:
        return [value for answer in answers for value in answer.values()]
    return list(answers)


def _of_list(signature: AnySignature, instances: Any, pointer: str) -> Arrays:
    if not isinstance(instances, list) or not instances:
        raise _wrong(pointer, "must be an array with at least one instance")
    with pointing("#/rows", pointer):
        if isinstance(signature, TensorSignature) or isinstance(instances[0], dict):
            return rows.arrays_of(signature, {"rows": instances})
        if len(signature.inputs) == 1:
            instances = [it if isinstance(it, list) else [it] for it in instances]
        return rows.arrays_of(signature, {"columns": list(signature.names), "rows": instances})


def _of_split(signature: AnySignature, split: Any) -> Arrays:
    if not isinstance(split, dict) or not split.keys() <= {"columns", "data", "index"}:
        raise _wrong("#/dataframe_split", "must be an object of columns, data and perhaps index")
    with pointing("#/columns", "#/dataframe_split/columns"), pointing("#/rows", "#/dataframe_split/data"):
        return rows.arrays_of(signature, {"columns": split.get("columns"), "rows": split.get("data")})


def _of_columns(signature: AnySignature, columns: Mapping[str, Any], pointer: str) -> Arrays:
    """Of an array for each column, or each input."""
    lengths = {len(values) if isinstance(values, list) else -1 for values in columns.values()}
    if len(lengths) != 1 or min(lengths) < 1:
        raise _wrong(pointer, "must have arrays of one length, and no empty ones")
    if lengths.pop() > rows.MAX_ROWS:
        raise _wrong(pointer, f"may have {rows.MAX_ROWS} rows at most")
    names = list(columns)
    turned = zip(*columns.values(), strict=True)
    with pointing("#/columns", pointer), pointing("#/rows", pointer):
        if isinstance(signature, TensorSignature):
            return rows.arrays_of(signature, {"rows": [dict(zip(names, row, strict=True)) for row in turned]})
        return rows.arrays_of(signature, {"columns": names, "rows": [list(row) for row in turned]})


def _require_members(document: Any, known: Sequence[str]) -> None:
    if not isinstance(document, dict):
        raise _wrong("#", "must be an object")
    if unknown := sorted(document.keys() - set(known)):
        raise _wrong(f"#/{unknown[0][:100]}", "is not known here")


@contextmanager
def pointing(ours: str, theirs: str) -> Iterator[None]:
    """Mistakes are said at their places in the body that came."""
    try:
        yield
    except errors.Invalid as exc:
        exc.errors = [{**it, "pointer": _moved(it["pointer"], ours, theirs)} for it in exc.errors]
        raise


def _moved(pointer: str, ours: str, theirs: str) -> str:
    return theirs + pointer.removeprefix(ours) if pointer.startswith(ours) else pointer


def _number(text: str) -> Any:
    """What cannot be read stays what it is, and is refused with its place."""
    if text in MISSING:
        return None
    if len(text) <= LONGEST_INTEGER and text.lstrip("+-").isdecimal() and text.isascii():
        return int(text)
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def _truth(text: str) -> Any:
    return None if text in MISSING else TRUTHS.get(text, text)


def _time(text: str) -> Any:
    return None if text in MISSING else text


def _text(text: str) -> Any:
    return text or None


_READ: Mapping[str, Callable[[str], Any]] = {
    "number": _number,
    "integer": _number,
    "boolean": _truth,
    "timestamp": _time,
    "string": _text,
}


def _wrong(pointer: str, detail: str) -> InstancesInvalid:
    return InstancesInvalid("The request cannot be read.", errors=[{"pointer": pointer, "detail": detail}])
