"""What both ways of answering a prediction share: rows in JSON, the answer in JSON, and what is counted."""

from typing import Any

import orjson

from kit import errors
from models import rows
from models.signature import Arrays, Prediction
from models.tensor_signature import AnySignature
from serving.api import strict
from serving.replica.table import Answering, Live

LARGE, MANY = 128 << 10, 1000
"""Bytes of a request, and rows of an answer, above which a thread reads or writes it, and the loop serves others."""
MEMBERS = frozenset({"rows", "columns"})


class RequestInvalid(errors.Invalid): ...


def arrays_of_json(signature: AnySignature, content: bytes) -> Arrays:
    """What a body of JSON asks."""
    return rows.arrays_of(signature, document_of(content), are_numbers=are_numbers(content))


def are_numbers(content: bytes) -> bool:
    """Whether it is seen at once that there is no text, truth or null in arrays that are the rows of this JSON.

    That is so when the last text in it is the name `rows`, and none of these letters is behind it. Of rows that are
    objects it says nothing: they may have a column of that name.
    """
    at = content.rfind(b'"')
    if not content.startswith(b'"rows":', at - 5):
        return False
    return content.find(b"t", at) < 0 and content.find(b"f", at) < 0 and content.find(b"n", at) < 0


def written_as_json(live: Live, one: Answering, prediction: Prediction) -> bytes:
    """An answer as JSON."""
    return orjson.dumps(
        {
            "predictions": one.resident.signature.answers_of(prediction),
            "model": one.target.model,
            "version": one.target.version,
            "revision": live.desired.revision,
        }
    )


def document_of(content: bytes) -> dict[str, Any]:
    """The request's JSON.

    Raises:
        errors.Malformed: it is none, or says NaN, or is no Unicode, or gives a member twice.
        RequestInvalid: it has members that mean nothing here.
    """
    document = strict.loads(content)
    if not isinstance(document, dict):
        raise RequestInvalid("A request is an object.", errors=[{"pointer": "#", "detail": "must be an object"}])
    if unknown := document.keys() - MEMBERS:
        places: list[errors.Place] = [
            {"pointer": f"#/{name[:100]}", "detail": "is not known here"} for name in sorted(unknown)[:20]
        ]
        raise RequestInvalid("A request has rows, and columns when rows are arrays.", errors=places)
    return document
