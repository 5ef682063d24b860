"""What is answered without waiting for anything (kit.at_once): a small request for a model that is quick, in its turn.

Only the good case: whatever is wrong with a request is said by the routes themselves, which are asked after this.
"""

import time
from collections.abc import Mapping

from starlette.types import Scope

from kit.callers import Caller
from models import rows
from models.signature import Arrays
from serving.api import deadlines, encodings, predict_kinds, tensor_answers
from serving.api.answering import LARGE, MANY, arrays_of_json, written_as_json
from serving.api.watching import Watching
from serving.domain import arrow, tensors
from serving.replica.table import Answering, Live, Table

JSON_HEAD = b"content-type: application/json\r\n"
JSON = b"application/json"
LENGTH = tensor_answers.LENGTH.encode("ascii")
_ARROW = arrow.MEDIA_TYPE.encode()
Headers = Mapping[bytes, bytes]


def predicted(
    scope: Scope, caller: Caller, params: Mapping[str, str], headers: Headers, body: bytes
) -> tuple[bytes, bytes] | None:
    """The answer to rows in JSON."""
    if len(body) > LARGE or not is_plain(headers):
        return None
    began = time.perf_counter()
    live, one = whose(scope, caller, params)
    if live is None or one is None:
        return None
    try:
        arrays = arrays_of_json(one.resident.signature, body)
        watching = Watching(scope, live, one, began)
        count = watching.asks(arrays)
        prediction = one.at_once(arrays, count, watching.spent) if count <= MANY else None
        if prediction is None:
            scope["state"]["read"] = one, arrays  # it is not read twice
            return None
        watching.answers(prediction)
        content = written_as_json(live, one, prediction)
        watching.ended(None, scope["state"].get("traceparent"))
    except Exception:  # noqa: BLE001 - it is met again on the long way, and said there
        return None
    return JSON_HEAD, content


def inferred(
    scope: Scope, caller: Caller, params: Mapping[str, str], headers: Headers, body: bytes
) -> tuple[bytes, bytes] | None:
    """The answer to tensors of the inference protocol's second version."""
    length = headers.get(LENGTH)
    words = len(body) if length is None else int(length) if length.isdigit() else 0
    if not 0 < words <= min(len(body), LARGE) or not is_hurried(headers):
        return None
    began = time.perf_counter()
    live, one = whose(scope, caller, params)
    if live is None or one is None:
        return None
    try:
        request, arrays = _read(None if length is None else words, body, one)
        watching = Watching(scope, live, one, began)
        count = watching.asks(arrays)
        prediction = one.at_once(arrays, count, watching.spent) if count <= MANY else None
        if prediction is None or prediction.size > MANY:
            return None
        watching.answers(prediction)
        identity = request.id or scope["state"]["request_id"]
        _, said, content = tensor_answers.written(live, one, request, prediction, identity)
        head = "".join([f"{name}: {value}\r\n" for name, value in said.items()]).encode("ascii")
        if len(content) >= encodings.WORTH and (accepts := headers.get(b"accept-encoding")) is not None:
            encoding = encodings.packing(accepts.decode("latin-1"))
            if encoding is not None:
                content = encodings.packed(content, encoding)
                head += b"content-encoding: %b\r\nvary: accept-encoding\r\n" % encoding.encode("ascii")
        watching.ended(None, scope["state"].get("traceparent"))
    except Exception:  # noqa: BLE001 - as above
        return None
    return head, content


def _read(words: int | None, body: bytes, one: Answering) -> tuple[tensors.Asked, Arrays]:
    """The request, and what the model takes of it. Of bytes whose words were read before nothing else is read."""
    signature = one.resident.signature
    layout = None if words is None else tensor_answers.layouts.get(body[:words])
    if layout is None:
        request = tensor_answers.request_of(None if words is None else str(words), body, one)
        return request, rows.arrays_of_tensors(signature, request.tensors)
    binary = body[words:]
    columns = layout.columns_in(signature, binary)
    if columns is not None:
        return layout.asked, columns
    given = layout.tensors_in(binary)
    if given is None:
        raise tensors.TensorInvalid("The bytes are others than the words say.")
    return layout.asked, rows.arrays_of_tensors(signature, given)


def is_plain(headers: Headers) -> bool:
    """Whether it is JSON that comes and goes, not packed, for somebody who waits for it."""
    kind = headers.get(b"content-type", JSON)
    if kind != JSON and predict_kinds.read_of(kind) is not None:
        return False
    return _ARROW not in headers.get(b"accept", b"").lower() and is_hurried(headers)


def is_hurried(headers: Headers) -> bool:
    """Whether the body is not packed, and somebody waits for the answer."""
    if b"content-encoding" in headers:
        return False
    return b"x-request-timeout" not in headers or _is_time(headers[b"x-request-timeout"])


def whose(scope: Scope, caller: Caller, params: Mapping[str, str]) -> tuple[Live, Answering] | tuple[None, None]:
    """Who answers, if it is there and its turn is now."""
    table: Table = scope["state"]["parts"].table
    live = table.seen(caller.project, params["name"])
    if live is None:
        return None, None
    one = live.only or live.choose(scope["state"]["request_id"])
    if "version" in params and params["version"] != str(one.target.version):
        return None, None
    return (live, one) if one.is_free() else (None, None)


def _is_time(value: bytes) -> bool:
    try:
        deadlines.seconds_of(value)
    except deadlines.TimeoutInvalid:
        return False
    return True
