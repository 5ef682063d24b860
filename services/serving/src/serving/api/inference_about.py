"""What the Open Inference Protocol says of the server and its models: metadata, health, configuration, statistics.

The last two are extensions of Triton's, which its clients ask for: its shapes, filled from what is known here.
"""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import orjson
from starlette.types import Receive, Scope

from kit import errors
from models import rows
from models.tensor_signature import AnySignature, elements_of
from serving.api.predict import JSON, found
from serving.api.speaking import Answer
from serving.domain import tensors
from serving.replica.table import Answering, Live, Table
from serving.replica.tallies import Batches

SERVER = {
    "name": "trainyard",
    "version": version("trainyard-serving"),
    "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
}
NANOSECONDS = 10**9


async def server(scope: Scope, receive: Receive) -> Answer:
    return 200, JSON, orjson.dumps(SERVER)


async def live(scope: Scope, receive: Receive) -> Answer:
    return 200, JSON, b'{"live":true}'


async def ready(scope: Scope, receive: Receive) -> Answer:
    is_ready = scope["state"]["parts"].replica.lacking() is None
    return 200 if is_ready else 503, JSON, orjson.dumps({"live": True, "ready": is_ready})


async def model_ready(scope: Scope, receive: Receive) -> Answer:
    name = scope["path_params"]["name"]
    try:
        found(scope)
    except errors.Unavailable:
        return 503, {**JSON, "retry-after": "1"}, orjson.dumps({"name": name, "ready": False})
    return 200, JSON, orjson.dumps({"name": name, "ready": True})


async def metadata(scope: Scope, receive: Receive) -> Answer:
    revision, one = found(scope)
    inputs, outputs = _shapes(one.resident.signature)
    document = {
        "name": revision.desired.name,
        "versions": _versions(revision),
        "platform": _platform(one),
        "inputs": [_tensor(*it) for it in inputs],
        "outputs": [_tensor(*it) for it in outputs],
    }
    return 200, JSON, orjson.dumps(document)


async def config(scope: Scope, receive: Receive) -> Answer:
    """A batch is what the first dimension counts, if it may vary in all tensors: then it is not among the others."""
    revision, one = found(scope)
    inputs, outputs = _shapes(one.resident.signature)
    batched = all(shape[:1] == [-1] for _, _, shape in (*inputs, *outputs))
    document = {
        "name": revision.desired.name,
        "platform": _platform(one),
        "backend": "trainyard",
        "version_policy": {"specific": {"versions": [int(it) for it in _versions(revision)]}},
        "max_batch_size": _most_rows(inputs, outputs) if batched else 0,
        "input": [_configured(*it, batched) for it in inputs],
        "output": [_configured(*it, batched) for it in outputs],
        "parameters": {"revision": {"string_value": str(revision.desired.revision)}},
    }
    return 200, JSON, orjson.dumps(document)


async def stats(scope: Scope, receive: Receive) -> Answer:
    """Of the version that the path names, or of all that a deployment serves."""
    revision, one = found(scope)
    asked = [one] if "version" in scope["path_params"] else revision.answering
    return 200, JSON, orjson.dumps({"model_stats": [_stats(revision, it) for it in asked]})


async def all_stats(scope: Scope, receive: Receive) -> Answer:
    """Of all deployments of the caller's project."""
    table: Table = scope["state"]["parts"].table
    project = scope["state"]["caller"].project
    revisions = sorted((it for it in table if it.desired.project == project), key=lambda it: it.desired.name)
    said = [_stats(revision, one) for revision in revisions for one in revision.answering]
    return 200, JSON, orjson.dumps({"model_stats": said})


def _shapes(signature: AnySignature) -> tuple[list[tuple[str, str, list[int]]], list[tuple[str, str, list[int]]]]:
    """Name, datatype and shape of what goes in, and of what comes out."""
    return tensors.inputs_of(signature), tensors.outputs_of(signature)


def _most_rows(inputs: Iterable[tuple[str, str, list[int]]], outputs: Iterable[tuple[str, str, list[int]]]) -> int:
    """That a request may have, as far as the shapes tell."""
    widths = [sum(elements_of(shape) for _, _, shape in shapes) for shapes in (inputs, outputs)]
    return max(1, min(rows.MAX_ROWS, rows.MAX_ELEMENTS // max(widths)))


def _versions(revision: Live) -> list[str]:
    return sorted({str(one.target.version) for one in revision.answering}, key=int)


def _platform(one: Answering) -> str:
    return f"trainyard_{one.target.file.format}"


def _tensor(name: str, datatype: str, shape: Iterable[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _configured(name: str, datatype: str, shape: list[int], batched: bool) -> dict[str, Any]:
    kind = "STRING" if datatype == tensors.BYTES else datatype
    return {"name": name, "data_type": f"TYPE_{kind}", "dims": shape[1:] if batched else shape}


def _stats(revision: Live, one: Answering) -> dict[str, Any]:
    tally = one.tally
    return {
        "name": revision.desired.name,
        "version": str(one.target.version),
        "last_inference": round(tally.last_at * 1000),
        "inference_count": tally.rows,
        "execution_count": tally.executions,
        "inference_stats": {
            "success": _duration(tally.requests, tally.seconds),
            "fail": _duration(tally.failed, tally.failed_seconds),
            "queue": _duration(tally.requests, tally.queued.sum),
            "compute_input": _duration(tally.requests, tally.read_seconds),
            "compute_infer": _duration(tally.requests, tally.compute_seconds),
            "compute_output": _duration(tally.requests, tally.write_seconds),
        },
        "batch_stats": [_batch_stats(size, tally.batches[size]) for size in sorted(tally.batches)],
    }


def _batch_stats(size: int, batches: Batches) -> dict[str, Any]:
    """What requests are read from and answers written to belongs to requests here, and never to a batch."""
    nothing = _duration(0, 0)
    computed = _duration(batches.count, batches.seconds)
    return {"batch_size": size, "compute_input": nothing, "compute_infer": computed, "compute_output": nothing}


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * NANOSECONDS)}
