"""What is sent to each neighbour, and how its answers are read."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from neighbours import problem

from kit import errors
from kit.callers import Role
from kit.clients import Principal, ServiceClient
from kit.testing import KeyFolder
from kit.tokens import load_signer
from pipelines.clients.ingest import IngestClient
from pipelines.clients.registry import Alias, RegistryClient
from pipelines.clients.serving import ServingClient
from pipelines.clients.trainer import TrainerClient

ADA = Principal("blue", Role.EDITOR, "ada")
VERSION = {"dataset": "flights", "version": 3, "status": {"phase": "ready"}, "digest": "sha256:1", "news": 1}
JOB = {"id": "j", "status": {"phase": "pending"}}
DEPLOYMENT = {"name": "d", "generation": 2, "status": {"phase": "ready", "observed_generation": 1}}


class Wire:
    """Says what it was told to, and remembers what it was asked."""

    def __init__(self, keys: KeyFolder) -> None:
        self.asked: list[httpx2.Request] = []
        self.answers: list[httpx2.Response] = []
        self._http = httpx2.AsyncClient(transport=httpx2.MockTransport(self), base_url="http://neighbour")
        self.service = ServiceClient(self._http, load_signer(keys.private("pipelines")), "neighbour")

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        return self.answers.pop(0)

    def says(self, *answers: Any, **headers: str) -> None:
        self.answers = [
            answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer, headers=headers)
            for answer in answers
        ]

    @property
    def lines(self) -> list[tuple[str, str]]:
        return [(request.method, request.url.path) for request in self.asked]

    async def close(self) -> None:
        await self._http.aclose()


@pytest.fixture
async def wire(key_folder: KeyFolder) -> AsyncIterator[Wire]:
    it = Wire(key_folder)
    yield it
    await it.close()


def gone() -> httpx2.Response:
    return problem(404, "not-found", "It is not there.")


async def test_a_version_is_asked_for_with_the_key_of_the_step(wire: Wire) -> None:
    wire.says(VERSION)
    version = await IngestClient(wire.service).make_version(ADA, "flights", {"upload": "sha256:x"}, key="k")
    assert (version.reference, version.digest, version.rows) == ("flights@3", "sha256:1", None)
    [request] = wire.asked
    assert wire.lines == [("POST", "/v1/datasets/flights/versions")]
    assert request.headers["idempotency-key"] == "k"
    assert json.loads(request.content) == {"upload": "sha256:x"}


async def test_whatever_stands_in_a_path_is_one_part_of_it(wire: Wire) -> None:
    wire.says(VERSION, JOB, {"model": "m", "version": 1, "digest": "d"})
    await IngestClient(wire.service).version(ADA, "a/b", "1\n?x=/../y")
    await TrainerClient(wire.service).job(ADA, "../j#")
    await RegistryClient(wire.service).version(ADA, "m", "sha256:1")
    assert [request.url.raw_path.decode() for request in wire.asked] == [
        "/v1/datasets/a%2Fb/versions/1%0A%3Fx%3D%2F..%2Fy",
        "/v1/jobs/..%2Fj%23",
        "/v1/models/m/versions/sha256:1",
    ]


async def test_a_dataset_is_there_or_not(wire: Wire) -> None:
    client = IngestClient(wire.service)
    wire.says({"name": "flights", "settings": {"nulls": []}})
    found = await client.dataset(ADA, "flights")
    assert found is not None
    assert found.settings == {"nulls": []}
    wire.says(gone())
    assert await client.dataset(ADA, "flights") is None


async def test_what_is_new_is_made_and_what_is_there_is_changed_from_what_it_is(wire: Wire) -> None:
    client = IngestClient(wire.service)
    wire.says(gone(), {"name": "flights", "settings": {}})
    await client.put_dataset(ADA, "flights", {})
    assert wire.asked[1].headers["if-none-match"] == "*"
    wire.says({}, {"name": "flights", "settings": {}}, etag='"1"')
    await client.put_dataset(ADA, "flights", {})
    assert wire.asked[3].headers["if-match"] == '"1"'
    assert json.loads(wire.asked[3].content) == {"settings": {}}


@pytest.mark.parametrize("status", [412, 428])
async def test_a_change_that_meets_another_is_made_once_more_and_not_for_ever(wire: Wire, status: int) -> None:
    there = httpx2.Response(200, json={}, headers={"etag": '"1"'})
    refused = problem(status, "changed", "It has changed.")
    client = ServingClient(wire.service)
    wire.says(there, refused, there, DEPLOYMENT)
    assert (await client.put(ADA, "d", {"model": "m"})).generation == 2
    wire.says(there, refused, there, refused)
    with pytest.raises((errors.PreconditionFailed, errors.PreconditionRequired)):
        await client.put(ADA, "d", {"model": "m"})


async def test_a_job_is_started_read_and_ended(wire: Wire) -> None:
    client = TrainerClient(wire.service)
    wire.says(JOB, JOB, JOB)
    await client.start(ADA, {"dataset": "d@1"}, key="k")
    job = await client.job(ADA, "j")
    await client.cancel(ADA, "j", key="c")
    assert (job.model, job.metrics) == (None, None)
    assert wire.lines == [("POST", "/v1/jobs"), ("GET", "/v1/jobs/j"), ("POST", "/v1/jobs/j/cancel")]
    assert [request.headers.get("idempotency-key") for request in wire.asked] == ["k", None, "c"]


@pytest.mark.parametrize("status", [404, 409])
async def test_a_job_that_has_ended_or_is_gone_is_ended(wire: Wire, status: int) -> None:
    wire.says(problem(status, "x", "No."))
    await TrainerClient(wire.service).cancel(ADA, "j", key="c")


async def test_an_alias_is_moved_from_where_it_was_seen(wire: Wire) -> None:
    client = RegistryClient(wire.service)
    wire.says({"alias": "champion", "version": 2}, etag='"7"')
    seen = await client.alias(ADA, "m", "champion")
    assert seen == Alias(2, '"7"')
    wire.says({}, {})
    await client.move(ADA, "m", "champion", 3, seen)
    await client.move(ADA, "m", "champion", 3, None)
    _, changed, made = wire.asked
    assert (changed.headers["if-match"], made.headers["if-none-match"]) == ('"7"', "*")
    assert json.loads(changed.content) == {"version": 3}
    assert wire.lines[1] == ("PUT", "/v1/models/m/aliases/champion")
    wire.says(gone())
    assert await client.alias(ADA, "m", "champion") is None


async def test_a_model_version_is_read(wire: Wire) -> None:
    wire.says({"model": "m", "version": 3, "digest": "sha256:1"})
    assert (await RegistryClient(wire.service).version(ADA, "m", "champion")).version == 3


async def test_a_deployment_says_what_it_serves_and_whether_that_is_an_answer(wire: Wire) -> None:
    client = ServingClient(wire.service)
    serving = {"revision": {"id": 4, "targets": [{"model": "m", "version": 3}]}}
    settled = {"phase": "ready", "observed_generation": 2}
    wire.says(DEPLOYMENT, DEPLOYMENT | serving | {"status": settled}, DEPLOYMENT | {"status": {"phase": "ready"}})
    found = [await client.deployment(ADA, "d") for _ in range(3)]
    assert [it.is_settled for it in found] == [False, True, True]
    assert [it.serves for it in found] == [[], ["m@3"], []]


@pytest.mark.parametrize("body", [{"dataset": "flights"}, [], {"status": {}}])
async def test_an_answer_that_is_not_understood_is_said_to_be(wire: Wire, body: Any) -> None:
    wire.says(body)
    with pytest.raises(errors.Corrupt, match="neighbour answered what is not understood here"):
        await IngestClient(wire.service).version(ADA, "flights", 1)


async def test_an_answer_without_an_etag_cannot_be_changed(wire: Wire) -> None:
    wire.says({})
    with pytest.raises(errors.Corrupt, match="without an ETag"):
        await ServingClient(wire.service).put(ADA, "d", {})


async def test_a_problem_is_the_same_kind_of_error_here(wire: Wire) -> None:
    wire.says(problem(422, "estimator-invalid", "No.", [{"pointer": "#/a", "detail": "b"}]))
    with pytest.raises(errors.Invalid) as caught:
        await TrainerClient(wire.service).start(ADA, {}, key="k")
    assert (caught.value.detail, caught.value.errors) == ("No.", [{"pointer": "#/a", "detail": "b"}])
