"""What is wrong is refused with a clear problem, leaves nothing half-made, and ends no process."""

import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from suites_at_work import Suite, until
from worlds import World, rows_of

from trainyard import Client

MEGABYTE = 1 << 20


@pytest.fixture
def client(shared_suite: Suite) -> Iterator[Client]:
    before = {name: program["pid"] for name, program in shared_suite.programs().items()}
    with shared_suite.client() as client:
        yield client
    after = {name: program["pid"] for name, program in shared_suite.programs().items()}
    assert before == after  # no process died


@pytest.fixture
def http(client: Client) -> Iterator[httpx2.Client]:
    headers = {name: value for name, value in client._http.headers.items() if name.lower() == "authorization"}
    with httpx2.Client(base_url=client.url, headers=headers, trust_env=False, timeout=60) as http:
        yield http


def problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """The document of a refusal: a code, words, and the id to ask about."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["code"]
    assert found["detail"]
    assert found["request_id"] == answer.headers["x-request-id"]
    return found


def test_bad_rows_are_set_aside_with_line_and_reason(client: Client, world: World) -> None:
    source = "\n".join(
        [
            "id,day,wind",
            "1,3,2.5",
            "2,monday,1.0",  # line 3: a type
            "3,4",  # line 4: too few
            "4,4,1.0,9",  # line 5: too many
            "1,9,9.0",  # line 6: the key again
            "5,5,NA",
            "6,6,\xff",  # line 8: not UTF-8
            "",
        ]
    ).encode("latin-1")
    columns = [
        {"name": name, "type": kind} for name, kind in (("id", "integer"), ("day", "integer"), ("wind", "number"))
    ]
    client.datasets.create(world.dataset, {"columns": columns, "key": ["id"], "nulls": ["NA"]})
    made = client.datasets.add_version(world.dataset, client.uploads.create(source))
    version = client.datasets.wait(world.dataset, made.version)
    assert version.phase == "ready", version.raw
    assert (version.rows, version.rejected, version.rows_in) == (2, 5, 7)
    rejects = {reject.line: reject.reason for reject in client.datasets.rejects(world.dataset)}
    assert rejects == {3: "type", 4: "too_few_columns", 5: "too_many_columns", 6: "duplicate_key", 8: "encoding"}


def test_json_that_is_not_strict(http: httpx2.Client) -> None:
    bad = [b'{"name": NaN}', b'{"name": 1e999}', b'{"name": "a", "name": "b"}', b'{"name": "\\u0000"}', b"\xff\xfe{}"]
    bad += [b'{"name": "\\ud800"}', b"[" * 2000, b"{", b'{"a":' * 40 + b"1" + b"}" * 40]
    for noun in ("datasets", "jobs", "models", "keys"):
        for body in bad:
            problem(http.post(f"/v1/{noun}", content=body, headers={"content-type": "application/json"}), 400)


def test_a_job_with_a_missing_target_or_an_unknown_estimator(client: Client, http: httpx2.Client, world: World) -> None:
    client.datasets.create(world.dataset, {"nulls": ["NA"], "key": ["id"]})
    made = client.datasets.add_version(world.dataset, client.uploads.create(rows_of(7)))
    assert client.datasets.wait(world.dataset, made.version).phase == "ready"
    spec = {
        "dataset": world.dataset,
        "task": "classification",
        "target": "late",
        "estimator": {"class": "sklearn.linear_model.LogisticRegression"},
    }
    refused = problem(http.post("/v1/jobs", json=spec | {"estimator": {"class": "os.system"}}), 422)
    assert refused["errors"][0]["pointer"].startswith("#/estimator")
    answer = http.post("/v1/jobs", json=spec | {"target": "latte"})
    if answer.status_code == 202:
        job = client.jobs.wait(answer.json()["id"])
        assert (job.phase, job.status.reason) == ("failed", "column-not-found")
        assert "latte" in (job.status.message or "")
    else:
        assert problem(answer, 422)["errors"][0]["pointer"] == "#/target"
    assert list(client.models.list()) == [] or world.name not in {model.name for model in client.models.list()}


def test_a_pipeline_that_runs_in_circles(http: httpx2.Client, world: World) -> None:
    gate = {"kind": "gate", "with": {"require": ["true"]}}
    steps = {"a": gate | {"needs": ["b"]}, "b": gate | {"needs": ["a"]}}
    refused = problem(http.put(f"/v1/pipelines/{world.name}", json={"steps": steps}), 422)
    assert any("a" in error["detail"] and "b" in error["detail"] for error in refused["errors"])
    assert http.get(f"/v1/pipelines/{world.name}").status_code == 404


def test_a_body_of_a_gigabyte_is_refused_before_it_has_come(shared_suite: Suite, client: Client) -> None:
    before = shared_suite.memory()
    url = urlsplit(client.url)
    authorization = client._http.headers["authorization"]
    for length in ("Content-Length: 1073741824", "Transfer-Encoding: chunked"):
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: {authorization}\r\n"
        head += f"Content-Type: application/json\r\n{length}\r\n\r\n"
        with socket.create_connection((url.hostname or "", url.port or 80), timeout=20) as wire:
            wire.sendall(head.encode())
            answer = _push(wire, chunked="chunked" in length)
        assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
        assert b"content-too-large" in answer
    assert shared_suite.memory() < before + 50 * MEGABYTE


def _push(wire: socket.socket, *, chunked: bool) -> bytes:
    """Send for as long as it is taken, up to a gigabyte; then what was answered."""
    piece = b"x" * 65536
    framed = b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
    began = time.monotonic()
    sent = 0
    try:
        while sent < 1 << 30 and time.monotonic() - began < 10:
            wire.sendall(framed)
            sent += len(piece)
    except OSError:
        pass  # closed on us, which is its right once it has answered
    answer = b""
    try:
        while part := wire.recv(65536):
            answer += part
    except OSError:
        pass
    return answer


def test_a_flipped_byte_in_a_stored_model_is_served_to_nobody(
    shared_suite: Suite, client: Client, world: World
) -> None:
    assert client.runs.wait(world.start(client, seed=3).id).phase == "succeeded"
    version = client.models.version(world.name)
    digest = str(version.formats[0]["digest"]).removeprefix("sha256:")
    stored = list((shared_suite.home.objects / "blobs" / "registry").glob(f"*/sha256/*/*{digest}*"))
    assert len(stored) == 1
    content = bytearray(stored[0].read_bytes())
    content[len(content) // 2] ^= 1
    stored[0].write_bytes(content)
    with httpx2.Client(base_url=client.url, headers=dict(client._http.headers), trust_env=False) as http:
        path = f"/v1/models/{world.name}/versions/1/files/{version.formats[0]['path']}"
        assert problem(http.get(path), 502)["code"] == "artifact-corrupt"
    # What was verified when it was loaded goes on answering.
    assert client.predict(world.name, [world.row()]).version == 1
    content[len(content) // 2] ^= 1
    stored[0].write_bytes(content)


def test_a_small_file_that_unpacks_to_very_much(client: Client, world: World) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": pa.array(["a" * 10_000] * 200_000).dictionary_encode()}), sink, compression="zstd")
    client.datasets.create(world.dataset)
    made = client.datasets.add_version(
        world.dataset, client.uploads.create(sink.getvalue().to_pybytes()), format="parquet"
    )
    version = client.datasets.wait(world.dataset, made.version, timedelta(seconds=120))
    assert version.phase == "failed", version.raw
    assert version.status.reason in ("decoded-too-large", "out-of-memory"), version.raw
    assert next(client.datasets.versions(world.dataset)).digest is None


def test_a_used_version_cannot_be_deleted_and_an_unused_one_can(client: Client, world: World) -> None:
    assert client.runs.wait(world.start(client, seed=4).id).phase == "succeeded"
    with httpx2.Client(base_url=client.url, headers=dict(client._http.headers), trust_env=False) as http:
        problem(http.delete(f"/v1/datasets/{world.dataset}/versions/1"), 409)
        problem(http.delete(f"/v1/models/{world.name}/versions/1"), 409)
    client.deployments.delete(world.name)
    client.models.delete_alias(world.name, "champion")

    def deleted() -> bool:
        with httpx2.Client(base_url=client.url, headers=dict(client._http.headers), trust_env=False) as http:
            return http.delete(f"/v1/models/{world.name}/versions/1").status_code == 204

    until(deleted, timedelta(seconds=30))
