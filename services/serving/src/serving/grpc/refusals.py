"""What went wrong as gRPC says it: a code, words, and in how many seconds to try again."""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import orjson

from kit.problems import problem_of
from serving.grpc.calls import Answer

WORDS = 1000
"""Of an error: what is longer does not fit into what clients take of trailers."""
DETAILS, PUSHBACK = "grpc-status-details-bin", "grpc-retry-pushback-ms"
RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
_CODES: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True)
class Refused:
    """How a call ends that is not answered."""

    code: grpc.StatusCode
    said: str
    trailers: tuple[tuple[str, str | bytes], ...] = ()


def of_answer(answer: Answer) -> Refused:
    """The refusal that an answer of the application is, in the protocol's shape or as a problem."""
    code, said = _CODES.get(answer.status, grpc.StatusCode.INTERNAL), _said(answer.body)
    seconds = answer.headers.get(b"retry-after", b"")
    if not seconds.isdigit():
        return Refused(code, said)
    trailers = ((PUSHBACK, str(int(seconds) * 1000)), (DETAILS, _retry_info(code, said, int(seconds))))
    return Refused(code, said, trailers)


def of_error(exc: Exception) -> Refused:
    """The same of an error on the way there. What we did not expect says nothing of itself."""
    status, headers, body = problem_of(exc)
    return of_answer(Answer(status, {name.encode(): value.encode() for name, value in headers.items()}, body))


def _said(body: bytes) -> str:
    document = orjson.loads(body)
    said = document.get("error") or document.get("detail") or document.get("title", "")
    places = [f"{place['pointer']} {place['detail']}" for place in document.get("errors", ())]
    return f"{said} {'; '.join(places)}".rstrip()[:WORDS]


def _retry_info(code: grpc.StatusCode, said: str, seconds: int) -> bytes:
    """A `google.rpc.Status` with a `RetryInfo`, which clients that know richer errors read."""
    info = _part(1, b"\x08" + _varint(seconds))  # a Duration
    wrapped = _part(1, RETRY_INFO) + _part(2, info)
    return b"\x08" + _varint(code.value[0]) + _part(2, said.encode()) + _part(3, wrapped)


def _part(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
