"""Bodies and answers of `predict` that are no JSON: Arrow and `.npy` in, Arrow out."""

from collections.abc import Callable, Mapping

from starlette.types import Scope

from models.signature import Arrays, Prediction
from models.tensor_signature import AnySignature
from serving.domain import arrow, arrow_answers, npy, tables, tensors
from serving.replica.table import Answering, Live

Read = Callable[[AnySignature, bytes], Arrays]
READS: Mapping[str, Read] = {
    arrow.MEDIA_TYPE: tables.arrays_of_arrow,
    npy.MEDIA_TYPE: tables.arrays_of_npy,
}
_ARROW = arrow.MEDIA_TYPE.encode()


def reads(scope: Scope) -> Read | None:
    """How to read a body of this `Content-Type`; None: as JSON, whatever it is called."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            return read_of(value)
    return None


def read_of(kind: bytes) -> Read | None:
    """The same of the header alone."""
    return READS.get(kind.decode("latin-1").partition(";")[0].strip().lower())


def wants_arrow(scope: Scope) -> bool:
    """Whether `Accept` names Arrow's format."""
    return any(name == b"accept" and _ARROW in value.lower() for name, value in scope["headers"])


def written(live: Live, one: Answering, prediction: Prediction) -> bytes:
    """A stream of Arrow with a column for each output, and the rest of the answer as metadata of its schema."""
    said = {"model": one.target.model, "version": str(one.target.version), "revision": str(live.desired.revision)}
    return arrow_answers.write(tensors.tensors_of(one.resident.signature, prediction), said)
