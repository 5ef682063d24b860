"""Each call of the protocol as a request of `/v2/…`, and the answer's JSON as its message."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from kit import errors
from serving.api.inference import LENGTH
from serving.grpc import tensors
from serving.grpc.schema import METHODS

INFER = "ModelInfer"
STATS = "stats"
"""A deployment of that name is described at its version's path."""


@dataclass(frozen=True)
class Request:
    """What is asked of the application."""

    verb: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Answer:
    """What the application says."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


@dataclass(frozen=True)
class Call:
    """One call: bytes of its message to a request, and an answer to bytes of its message."""

    name: str
    asked: Callable[[Any], Request]
    also: frozenset[int] = frozenset()
    """Statuses that are answers too, and no errors."""

    def request_of(self, content: bytes) -> Request:
        """
        Raises:
            errors.Malformed: it is no such message.
            errors.Invalid: it is one, and cannot be asked.
            errors.NotFound: it names what cannot be there.
        """
        given, _ = METHODS[self.name]
        try:
            message = tensors.read(content) if self.name == INFER else given.FromString(content)
        except DecodeError:
            raise errors.Malformed(f"The message is no {given.DESCRIPTOR.name}.") from None
        return self.asked(message)

    def message_of(self, answer: Answer) -> bytes:
        """What the application said, as the protocol has it."""
        if self.name == INFER:
            length = answer.headers.get(LENGTH, b"")
            return bytes(tensors.answer_of(answer.body, int(length or len(answer.body))).SerializeToString())
        document = orjson.loads(answer.body)
        wrapped = _WRAPPED.get(self.name)
        message = METHODS[self.name][1]()
        ParseDict(document if wrapped is None else {wrapped: document}, message, ignore_unknown_fields=True)
        return bytes(message.SerializeToString())


_WRAPPED = {"RepositoryIndex": "models", "ModelConfig": "config"}
"""Answers that are not an object with the message's fields, and the field that they are."""


def _get(path: str) -> Callable[[Any], Request]:
    return lambda message: Request("GET", path)


def _of_model(tail: str) -> Callable[[Any], Request]:
    return lambda message: Request("GET", _path(message.name, message.version) + tail)


def _path(name: str, version: str) -> str:
    """Where a model is. Names are parts of a path here, which the protocol does not know of."""
    if not name or "/" in name or "/" in version:
        raise errors.NotFound(f"There is no model {name[:100]!r}.")
    return f"/v2/models/{name}" + (f"/versions/{version}" if version else "")


def _metadata(message: Any) -> Request:
    if message.name == STATS and not message.version:
        raise errors.Malformed(f"A model that is called {STATS!r} is described by its version.")
    return Request("GET", _path(message.name, message.version))


def _statistics(message: Any) -> Request:
    if not message.name:
        return Request("GET", f"/v2/models/{STATS}")
    return Request("GET", f"{_path(message.name, message.version)}/stats")


def _infer(message: Any) -> Request:
    path = _path(message.model_name, message.model_version)
    body, length = tensors.body_of(message)
    return Request("POST", f"{path}/infer", body, ((LENGTH, b"%d" % length),))


def _index(message: Any) -> Request:
    return Request("POST", "/v2/repository/index", orjson.dumps({"ready": message.ready}))


def _repository(what: str) -> Callable[[Any], Request]:
    def asked(message: Any) -> Request:
        _path(message.model_name, "")
        return Request("POST", f"/v2/repository/models/{message.model_name}/{what}")

    return asked


_NOT_YET = frozenset({503})
_CALLS = (
    Call("ServerLive", _get("/v2/health/live")),
    Call("ServerReady", _get("/v2/health/ready"), _NOT_YET),
    Call("ServerMetadata", _get("/v2")),
    Call("ModelReady", _of_model("/ready"), _NOT_YET),
    Call("ModelMetadata", _metadata),
    Call("ModelConfig", _of_model("/config")),
    Call("ModelStatistics", _statistics),
    Call(INFER, _infer),
    Call("RepositoryIndex", _index),
    Call("RepositoryModelLoad", _repository("load")),
    Call("RepositoryModelUnload", _repository("unload")),
)
CALLS: Mapping[str, Call] = {call.name: call for call in _CALLS}
