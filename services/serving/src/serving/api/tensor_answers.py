"""What both ways of answering the inference protocol share: a request as tensors, and the answer."""

import orjson

from kit import errors
from models.signature import Prediction
from serving.api import strict
from serving.domain import tensors
from serving.domain.layouts import Layout, Layouts
from serving.replica.table import Answering, Live

JSON = {"content-type": "application/json"}
OCTETS = "application/octet-stream"
LENGTH = "inference-header-content-length"
Answer = tuple[int, dict[str, str], bytes]
layouts = Layouts()


def written(live: Live, one: Answering, request: tensors.Asked, prediction: Prediction, identity: str) -> Answer:
    described, parts = tensors.write(tensors.tensors_of(one.resident.signature, prediction), request)
    document = {
        "model_name": live.desired.name,
        "model_version": str(one.target.version),
        "id": identity,
        "parameters": {"revision": live.desired.revision},
        "outputs": described,
    }
    text = orjson.dumps(document)
    if not parts:
        return 200, JSON, text
    return 200, {"content-type": OCTETS, LENGTH: str(len(text))}, b"".join([text, *parts])


def request_of(given: str | None, content: bytes, one: Answering) -> tensors.Asked:
    """JSON, or JSON of an announced length and tensors behind it."""
    length = len(content) if given is None else int(given) if given.isascii() and given.isdigit() else -1
    if not 0 <= length <= len(content):
        raise errors.Malformed("Inference-Header-Content-Length is not the length of the JSON in this body.")
    if length == 0 and given is not None:
        return tensors.read_raw(one.resident.signature, content)
    words = content[:length]
    document = strict.loads(words)
    request = tensors.read(document, content[length:])
    if given is not None and (layout := Layout.of(document, request)) is not None:
        layouts.put(words, layout)
    return request
