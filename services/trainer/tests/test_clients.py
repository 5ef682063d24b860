"""What the trainer asks of its neighbours, and what a runner asks of the trainer, word by word."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from neighbours import digest_of

from kit import errors
from kit.clients import Principal, ServiceClient
from kit.roles import Role
from kit.testing import KeyFolder
from kit.tokens import load_signer, load_verifier
from trainer.clients.ingest import IngestClient, InputsDiffer, ShardSeen, VersionSeen
from trainer.clients.registry import RegistryClient
from trainer.clients.trainer import TrainerClient
from trainer.domain.attempts import OutputFile
from trainer.domain.grants import Grant
from trainer.domain.jobs import Pinned
from trainer.domain.specs import DatasetReference

ADA = Principal("blue", Role.EDITOR, "ada")
PINNED = Pinned("flights@3", "sha256:" + "d" * 64)
GRANT = Grant(
    attempt="01900000-0000-7000-8000-000000000001",
    project="blue",
    job="j1",
    number=1,
    fence=7,
    token="tya_x",
    subject="ada",
    dataset=PINNED.reference,
    dataset_digest=PINNED.digest,
    spec={},
)
VERSION = {
    "dataset": "flights",
    "version": 3,
    "digest": PINNED.digest,
    "status": {"phase": "ready", "reason": "", "message": None},
    "schema": [{"name": "hour", "type": "integer"}],
    "more": "than is known",
}
Answer = Callable[[httpx2.Request], httpx2.Response]


class Wire:
    """Answers with what it is told to, and keeps what it was asked."""

    def __init__(self, keys: KeyFolder) -> None:
        self.asked: list[httpx2.Request] = []
        self.answer: Answer = lambda request: httpx2.Response(204)
        self._keys = keys

    def service(self, name: str) -> ServiceClient:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self._handle), base_url=f"http://{name}")
        return ServiceClient(http, load_signer(self._keys.private("trainer")), name)

    async def _handle(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.asked.append(request)
        return self.answer(request)

    def says(self, status: int, document: object) -> None:
        kind = "application/json" if status < 400 else "application/problem+json"
        content = json.dumps(document).encode()
        self.answer = lambda request: httpx2.Response(status, content=content, headers={"content-type": kind})

    def caller(self, audience: str) -> tuple[str, str, Role, str]:
        """Of the last request: whose it was."""
        token = self.asked[-1].headers["authorization"].removeprefix("Bearer ")
        caller = load_verifier(self._keys.public, audience).verify(token)
        return caller.issuer, caller.project, caller.role, caller.subject

    def last(self) -> tuple[str, str, Any]:
        request = self.asked[-1]
        target = request.url.raw_path.decode()
        return request.method, target, json.loads(request.content) if request.content else None


@pytest.fixture
def wire(key_folder: KeyFolder) -> Wire:
    return Wire(key_folder)


@pytest.fixture
def asked(wire: Wire) -> IngestClient:
    return IngestClient(wire.service("ingest"))


async def test_a_version_that_is_ready_is_pinned_by_its_number_and_digest(wire: Wire, asked: IngestClient) -> None:
    wire.says(200, VERSION)
    found = await asked.version(ADA, DatasetReference("flights", "latest"))
    assert found == VersionSeen("ready", "", PINNED, ("hour",))
    assert wire.last()[:2] == ("GET", "/v1/datasets/flights/versions/latest")
    assert wire.caller("ingest") == ("trainer", "blue", Role.EDITOR, "ada")


async def test_a_version_that_is_not_ready_is_not_pinned(wire: Wire, asked: IngestClient) -> None:
    status = {"phase": "failed", "reason": "no-rows", "message": "no rows"}
    wire.says(200, VERSION | {"digest": None, "status": status})
    assert await asked.version(ADA, DatasetReference("flights", "3")) == VersionSeen(
        "failed", "no rows", None, ("hour",)
    )


async def test_holds_are_placed_and_released_under_the_job_s_name(wire: Wire, asked: IngestClient) -> None:
    hold = {"noun": "dataset-version", "ref": "flights@3", "holder": "trainer/job/j1"}
    wire.says(200, hold)
    await asked.hold(ADA, PINNED, "trainer/job/j1")
    assert wire.last() == ("PUT", "/internal/v1/holds", hold)
    await asked.release(ADA, PINNED, "trainer/job/j1")
    assert wire.last()[0] == "DELETE"
    assert dict(wire.asked[-1].url.params) == hold


async def test_shards_are_those_of_the_pinned_digest_or_none(wire: Wire, asked: IngestClient) -> None:
    shard = {"digest": "sha256:1", "rows": 2, "size": 3, "split": "train"}
    wire.says(200, {"digest": PINNED.digest, "schema": [], "shards": [shard]})
    assert await asked.shards(ADA, PINNED) == [ShardSeen("sha256:1", 2, 3, "train")]
    assert wire.last()[:2] == ("GET", "/v1/datasets/flights/versions/3/shards")
    wire.says(200, {"digest": "sha256:other", "schema": [], "shards": [shard]})
    with pytest.raises(InputsDiffer, match="has the digest sha256:other"):
        await asked.shards(ADA, PINNED)


async def test_a_shard_s_bytes_are_verified(wire: Wire, asked: IngestClient, tmp_path: Path) -> None:
    shard = ShardSeen(digest_of(b"rows"), 1, 4, "train")
    wire.answer = lambda request: httpx2.Response(200, content=b"rows")
    await asked.fetch(ADA, PINNED, shard, tmp_path / "shard")
    assert (tmp_path / "shard").read_bytes() == b"rows"
    assert wire.last()[:2] == ("GET", f"/v1/datasets/flights/versions/3/shards/{shard.digest}")
    wire.answer = lambda request: httpx2.Response(200, content=b"rowz")
    with pytest.raises(InputsDiffer):
        await asked.fetch(ADA, PINNED, shard, tmp_path / "shard")


async def test_the_feed_is_asked_with_the_cursor(wire: Wire, asked: IngestClient) -> None:
    wire.says(200, {"events": [], "cursor": "5:6"})
    assert (await asked.events("3:4", wait=timedelta(seconds=1))).cursor == "5:6"
    assert dict(wire.asked[-1].url.params) == {"after": "3:4", "wait": "1s"}


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_file_and_a_manifest_go_to_the_registry(wire: Wire) -> None:
    registry = RegistryClient(wire.service("registry"))
    wire.says(200, {"digest": "sha256:1", "size": 4})
    await registry.put_blob(ADA, "sha256:1", 4, chunks(b"by", b"te"))
    request = wire.asked[-1]
    assert (request.method, request.url.path, request.content) == ("PUT", "/internal/v1/blobs/sha256:1", b"byte")
    assert request.headers["content-length"] == "4"
    wire.says(201, {"model": "delays", "version": 2, "digest": "sha256:2", "created_at": "…"})
    made = await registry.put_version(ADA, "delays", {"task": "classification"})
    assert made == {"name": "delays", "version": 2, "digest": "sha256:2"}
    assert wire.last() == ("PUT", "/internal/v1/models/delays/versions", {"task": "classification"})
    assert wire.caller("registry") == ("trainer", "blue", Role.EDITOR, "ada")


async def test_a_runner_speaks_for_its_host_in_the_attempt_s_project(wire: Wire, tmp_path: Path) -> None:
    trainer = TrainerClient(wire.service("trainer"), "h1")
    wire.says(200, {"attempts": [GRANT.to_json()]})
    assert await trainer.lease(2, ["b", "a"], wait=timedelta(seconds=3)) == [GRANT]
    body = {"host": "h1", "slots": 2, "holding": ["a", "b"]}
    assert wire.last() == ("POST", "/internal/v1/leases?wait=3s", body)
    assert wire.caller("trainer") == ("trainer", "system", Role.VIEWER, "runner:h1")
    wire.says(200, {"stop": True})
    assert await trainer.beat(GRANT)
    path = f"/internal/v1/leases/{GRANT.attempt}"
    assert wire.last() == ("POST", f"{path}/heartbeat", {"fence": 7})
    assert wire.caller("trainer")[1] == "blue"
    wire.says(200, {})
    await trainer.lines(GRANT, [{"number": 1}])
    assert wire.last() == ("POST", f"{path}/lines", {"fence": 7, "entries": [{"number": 1}]})
    (tmp_path / "model").write_bytes(b"byte")
    await trainer.put_output(GRANT, OutputFile("skops", "model", "sha256:1", 4), tmp_path / "model")
    assert (wire.asked[-1].url.raw_path.decode(), wire.asked[-1].content) == (
        f"{path}/outputs/sha256:1?fence=7",
        b"byte",
    )
    await trainer.finish(GRANT, exit_code=-9, result=None, failure={"reason": "crashed"})
    end = {"fence": 7, "exit_code": -9, "result": None, "failure": {"reason": "crashed"}}
    assert wire.last() == ("POST", f"{path}/finish", end)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, errors.NotFound), (409, errors.Conflict), (503, errors.Unavailable), (500, errors.Unavailable)],
)
async def test_an_answer_that_is_a_problem_is_one_of_our_errors(
    wire: Wire, asked: IngestClient, status: int, kind: type[errors.Error]
) -> None:
    wire.says(status, {"code": "so", "detail": "so it is"})
    with pytest.raises(kind):
        await asked.version(ADA, DatasetReference("flights", "3"))
    with pytest.raises(kind):
        await TrainerClient(wire.service("trainer"), "h1").beat(GRANT)


async def test_nobody_at_the_other_end_is_unavailable(wire: Wire, asked: IngestClient, tmp_path: Path) -> None:
    def away(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("away")

    wire.answer = away
    with pytest.raises(errors.Unavailable):
        await asked.fetch(ADA, PINNED, ShardSeen("sha256:1", 1, 1, "train"), tmp_path / "shard")
    with pytest.raises(errors.Unavailable):
        await RegistryClient(wire.service("registry")).put_blob(ADA, "sha256:1", 1, chunks(b"b"))
