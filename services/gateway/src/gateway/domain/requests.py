"""What a request is, by its method and path alone: whose it is, what it needs, how much it may carry."""

import enum
from collections.abc import Mapping, Sequence
from functools import lru_cache

# The only paths that leave the gateway. A service's /internal and /metrics are no entry, so that nobody reaches them.
ROUTES: Mapping[tuple[str, str], str] = {
    ("v1", "datasets"): "ingest",
    ("v1", "uploads"): "ingest",
    ("v1", "jobs"): "trainer",
    ("v1", "models"): "registry",
    ("v1", "deployments"): "serving",
    ("v1", "pipelines"): "pipelines",
    ("v1", "runs"): "pipelines",
}
# Whose signed URLs lead here: `/v1/objects/<service>/<signed>`.
OBJECTS = frozenset({"ingest", "registry"})
INFERENCE = "v2"
# A model there is a deployment here, and not one of the registry's: `POST /v1/models/{name}:predict`, as KServe has it.
PREDICT_SUFFIX = ":predict"
SAFE = frozenset({"GET", "HEAD"})
JSON_LIMIT = 1 << 20
PREDICT_LIMIT = 4 << 20


class Operation(enum.Enum):
    """What a request does."""

    ORIENT = "who am I, how is the suite"
    PREDICT = "ask a deployed model"
    DESCRIBE = "what the inference protocol says of deployed models"
    READ = "look at anything else"
    WRITE = "change something"
    ADMINISTER = "keys, members, projects, audit"

    __hash__ = object.__hash__  # each is one object; Enum's is a function of Python


# What goes on while the database is away, with the keys that were known.
OFFLINE = frozenset({Operation.ORIENT, Operation.PREDICT, Operation.DESCRIBE})


# What is asked again and again is not worked out again and again.
_remembered = lru_cache(maxsize=512)


@_remembered
def service_of(path: str) -> str | None:
    """The service behind a path, or None: then the gateway answers itself."""
    segments = _segments(path)
    if segments[:1] == [INFERENCE] or _is_v1(segments):
        return "serving"
    if segments[:2] == ["v1", "objects"]:
        return segments[2] if len(segments) == 4 and segments[2] in OBJECTS else None
    return ROUTES.get((segments[0], segments[1])) if len(segments) > 1 else None


@_remembered
def is_inference_protocol(path: str) -> bool:
    """Whether errors there must be in the shape of the Open Inference Protocol, or its version before, which is one."""
    segments = _segments(path)
    return segments[:1] == [INFERENCE] or _is_v1(segments)


@_remembered
def operation_of(method: str, path: str) -> Operation:
    """What a request does, as far as the scopes of a key are concerned. In doubt, the most."""
    reads = method in SAFE
    match _segments(path):
        case ["v1", "whoami" | "status"]:
            return Operation.ORIENT
        case ["v1", "keys" | "audit", *_]:
            return Operation.ADMINISTER
        case ["v1", "projects", *_] if not reads:
            return Operation.ADMINISTER
        case ["v1", "deployments", _, "predict" | "invocations" | "predictions"] if method == "POST":
            return Operation.PREDICT
        case ["v1", "deployments", _, "predictions", _] if reads:  # the answer to what such a key has asked
            return Operation.DESCRIBE
        case ["v1", "deployments", _, "ping"] if reads:
            return Operation.DESCRIBE
        case ["v1", "models", _] as segments if _is_v1(segments) and method == "POST":
            return Operation.PREDICT
        case ["v2", "models", _, "infer"] | ["v2", "models", _, "versions", _, "infer"] if method == "POST":
            return Operation.PREDICT
        case ["v2", *_] if reads:
            return Operation.DESCRIBE
        case ["v2", "repository", "index"] if method == "POST":  # which only lists, but takes a body
            return Operation.DESCRIBE
        case _:
            return Operation.READ if reads else Operation.WRITE


@_remembered
def body_limit(method: str, path: str, media_type: str) -> int | None:
    """How many bytes a request to a service may carry, or None: that service streams it, and limits it itself."""
    match _segments(path):
        case ["v1", "uploads"] if method == "POST":
            return None
        case ["v1", "models", _, "blobs", _] if method == "PUT":
            return None
        case ["v1", "datasets", _, "versions"] if method == "POST" and not _is_json(media_type):
            return None
    return PREDICT_LIMIT if operation_of(method, path) is Operation.PREDICT else JSON_LIMIT


def _is_v1(segments: Sequence[str]) -> bool:
    return list(segments[:2]) == ["v1", "models"] and len(segments) == 3 and segments[2].endswith(PREDICT_SUFFIX)


def _segments(path: str) -> list[str]:
    # One trailing slash is a segment of its own here as it is in the services: neither of us redirects.
    return path.removeprefix("/").split("/")


def _is_json(media_type: str) -> bool:
    media = media_type.partition(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json")
