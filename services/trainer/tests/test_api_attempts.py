"""What the program in a job may say with its token, and that the token is dead with its attempt."""

import socket
import uuid
from typing import Any

import httpx2
import pytest
from makers import add_job
from pydantic import SecretStr
from requests_made import TTL, grant
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import leases
from kit.app import Service
from kit.testing import KeyFolder, client_of
from trainer.app import create_app
from trainer.domain.leased import AttemptPhase, Ending
from trainer.settings import Settings
from trainer.store import tables
from trainer.store.attempts import AttemptStore, Granted

AT = "2030-01-01T00:00:00Z"
LINE = {"number": 1, "at": AT, "level": "info", "message": "fitting"}
POINT = {"number": 1, "at": AT, "name": "loss", "value": 0.5, "step": 3}
BODIES: dict[str, dict[str, Any]] = {"logs": {"entries": [LINE]}, "metrics": {"points": [POINT]}}
BEAT: dict[str, Any] = {"progress": {"stage": "fitting", "fraction": None}}


def path_of(granted: Granted, verb: str) -> str:
    return f"/internal/v1/attempts/{granted.attempt.id}/{verb}"


async def say(client: httpx2.AsyncClient, granted: Granted, verb: str, body: dict[str, Any]) -> httpx2.Response:
    headers = {"authorization": f"Bearer {granted.token}"}
    return await client.post(path_of(granted, verb), json=body, headers=headers)


@pytest.fixture
async def granted(engine: AsyncEngine) -> Granted:
    return await grant(engine, await add_job(engine))


async def test_lines_and_points_are_kept_once(client: httpx2.AsyncClient, granted: Granted) -> None:
    for _ in range(2):  # the answer to the first was lost
        assert (await say(client, granted, "logs", {"entries": [LINE]})).status_code == 204
        assert (await say(client, granted, "metrics", {"points": [POINT]})).status_code == 204
    job = granted.attempt.job_id
    [line] = (await client.get(f"/v1/jobs/{job}/logs")).json()["items"]
    assert line == {"at": AT, "level": "info", "message": "fitting", "source": "job", "attempt": 1}
    [point] = (await client.get(f"/v1/jobs/{job}/metrics")).json()["items"]
    assert point == {"name": "loss", "value": 0.5, "step": 3, "at": AT, "attempt": 1}


async def test_a_heartbeat_says_whether_to_stop(
    client: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    assert (await say(client, granted, "heartbeat", BEAT)).json() == {"stop": False}
    async with engine.begin() as connection:
        await AttemptStore(connection).request_stop(granted.attempt)
    assert (await say(client, granted, "heartbeat", BEAT)).json() == {"stop": True}


@pytest.mark.parametrize("verb", ["heartbeat", "logs", "metrics"])
async def test_a_token_is_dead_with_its_attempt(
    client: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted, verb: str
) -> None:
    body = BODIES.get(verb, BEAT)
    assert (await say(client, granted, verb, body)).is_success
    async with engine.begin() as connection:
        ending = Ending(AttemptPhase.FAILED)
        assert await AttemptStore(connection).finish(granted.attempt, ending, exit_code=1, result=None)
    answer = await say(client, granted, verb, body)
    assert (answer.status_code, answer.json()["code"]) == (401, "attempt-token-refused")


async def test_a_token_is_dead_when_the_attempt_is_given_anew(
    client: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    async with engine.begin() as connection:
        [again] = await AttemptStore(connection).regrant("h1", [], ttl=TTL)
    assert (await say(client, granted, "heartbeat", BEAT)).status_code == 401
    assert (await say(client, again, "heartbeat", BEAT)).status_code == 200


async def test_a_token_opens_nothing_but_its_own_attempt(
    client: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    headers = {"authorization": f"Bearer {granted.token}"}
    job = granted.attempt.job_id
    for verb, path in [
        ("GET", "/v1/jobs"),
        ("GET", f"/v1/jobs/{job}"),
        ("GET", f"/v1/jobs/{job}/logs"),
        ("POST", f"/v1/jobs/{job}/cancel"),
        ("POST", "/internal/v1/leases"),
        ("POST", f"/internal/v1/leases/{granted.attempt.id}/finish"),
        ("GET", "/internal/v1/events"),
        ("GET", "/nothing"),
    ]:
        assert (await client.request(verb, path, headers=headers, json={})).status_code == 401, path
    other = await grant(engine, await add_job(engine))
    answer = await client.post(path_of(other, "heartbeat"), json=BEAT, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "attempt-not-found")


async def test_a_service_or_a_user_is_no_attempt(app: Service, granted: Granted, key_folder: KeyFolder) -> None:
    for issuer in ("gateway", "trainer"):
        async with client_of(app, key_folder.headers("trainer", issuer=issuer, project="blue")) as client:
            assert (await client.post(path_of(granted, "heartbeat"), json=BEAT)).status_code == 404


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("logs", {"entries": [LINE | {"number": 0}]}),
        ("logs", {"entries": [LINE | {"at": "yesterday"}]}),
        ("logs", {"entries": [LINE | {"message": "x" * 70_000}]}),
        ("metrics", {"points": [POINT | {"name": ""}]}),
        ("metrics", {"points": [POINT | {"step": -1}]}),
        ("heartbeat", {"progress": {"stage": "fitting", "fraction": 2}}),
    ],
)
async def test_a_report_that_is_none_is_refused(
    client: httpx2.AsyncClient, granted: Granted, verb: str, body: dict[str, Any]
) -> None:
    assert (await say(client, granted, verb, body)).status_code == 422


async def test_a_heartbeat_of_the_program_does_not_keep_the_runner_s_lease(
    client: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    # A program that goes on without its runner must not keep the attempt: nobody would hear how it ended.
    await say(client, granted, "heartbeat", BEAT)
    async with engine.begin() as connection:
        found = await AttemptStore(connection).get("blue", granted.attempt.id)
    assert found.lease_until == granted.attempt.lease_until


async def test_the_job_is_not_woken_by_reports(
    client: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    async with engine.begin() as connection:
        await leases.lease_due(connection, tables.jobs, 1, ttl=TTL)
    await say(client, granted, "logs", {"entries": [LINE]})
    async with engine.begin() as connection:
        assert await leases.lease_due(connection, tables.jobs, 1, ttl=TTL) == []


async def test_without_a_database_a_token_is_neither_refused_nor_a_failure(
    settings: Settings, key_folder: KeyFolder
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # where nobody listens, as soon as this is closed
    nowhere = settings.model_copy(
        update={"database_url": SecretStr(f"postgresql+psycopg://trainer@127.0.0.1:{port}/trainer")}
    )
    async with client_of(create_app(nowhere), {"authorization": "Bearer tya_x"}) as client:
        answer = await client.post(f"/internal/v1/attempts/{uuid.uuid4()}/heartbeat", json={})
    assert (answer.status_code, answer.json()["code"]) == (503, "dependency-unavailable")
    assert int(answer.headers["retry-after"]) >= 1
