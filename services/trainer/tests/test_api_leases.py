"""What runners ask and say: leases, heartbeats, outputs, ends."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from makers import add_job, result_of
from requests_made import TTL, grant, queue
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import blobs, leases
from kit.app import Service
from kit.testing import KeyFolder, client_of, eventually
from trainer.actions import RUNNERS
from trainer.app import create_app
from trainer.domain.jobs import Phase, Reason
from trainer.domain.leased import AttemptPhase
from trainer.settings import Settings
from trainer.store.attempts import AttemptStore, Granted
from trainer.store.jobs import JobStore

BYTES = b"a model"
DIGEST = f"sha256:{hashlib.sha256(BYTES).hexdigest()}"
ME = {"host": "h1", "slots": 2}


@pytest.fixture
async def runner(app: Service, key_folder: KeyFolder) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, key_folder.headers("trainer", issuer="trainer", project="blue")) as client:
        yield client


@pytest.fixture
async def granted(engine: AsyncEngine) -> Granted:
    return await grant(engine, await add_job(engine))


def path_of(granted: Granted, verb: str) -> str:
    return f"/internal/v1/leases/{granted.attempt.id}/{verb}"


async def put(runner: httpx2.AsyncClient, granted: Granted, content: bytes = BYTES, **given: Any) -> httpx2.Response:
    digest, fence = given.get("digest", DIGEST), given.get("fence", granted.attempt.fence)
    return await runner.put(path_of(granted, f"outputs/{digest}"), content=content, params={"fence": fence})


async def finish(runner: httpx2.AsyncClient, granted: Granted, **given: Any) -> httpx2.Response:
    body = {"fence": granted.attempt.fence, "exit_code": 0, "result": None, "failure": None}
    return await runner.post(path_of(granted, "finish"), json=body | given)


async def found(engine: AsyncEngine, granted: Granted) -> Any:
    async with engine.begin() as connection:
        return await AttemptStore(connection).get("blue", granted.attempt.id)


async def test_a_runner_gets_all_that_the_attempt_takes(runner: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    job = await add_job(engine)
    attempt = await queue(engine, job)
    [work] = (await runner.post("/internal/v1/leases", json=ME)).json()["attempts"]
    assert work["token"].startswith("tya_")
    assert {name: work[name] for name in work if name not in ("token", "spec")} == {
        "attempt": str(attempt.id),
        "project": "blue",
        "job": str(job.id),
        "number": 1,
        "fence": 1,
        "subject": "ada",
        "dataset": "flights@3",
        "dataset_digest": "sha256:" + "d" * 64,
        "traceparent": None,
    }
    assert work["spec"] == job.spec.training.to_json()
    async with engine.begin() as connection:
        running = await JobStore(connection).get("blue", job.id)
    assert (running.phase, running.started_at is not None) == (Phase.RUNNING, True)


async def test_no_more_is_given_than_there_is_room_for(runner: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    for _ in range(3):
        await queue(engine, await add_job(engine))
    body = {**ME, "holding": []}
    first = (await runner.post("/internal/v1/leases", json=body)).json()["attempts"]
    assert len(first) == 2
    known = [each["attempt"] for each in first]
    rest = (await runner.post("/internal/v1/leases", json=body | {"holding": known})).json()["attempts"]
    assert len(rest) == 1


async def test_what_a_runner_does_not_know_of_is_given_anew(runner: httpx2.AsyncClient, granted: Granted) -> None:
    known = (await runner.post("/internal/v1/leases", json=ME | {"holding": [str(granted.attempt.id)]})).json()
    assert known["attempts"] == []
    [again] = (await runner.post("/internal/v1/leases", json=ME)).json()["attempts"]
    assert (again["attempt"], again["fence"]) == (str(granted.attempt.id), granted.attempt.fence + 1)
    assert again["token"] != granted.token


async def test_a_runner_that_waits_is_answered_when_something_comes(
    runner: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    waiting = asyncio.create_task(runner.post("/internal/v1/leases", json=ME, params={"wait": "20s"}))
    job = await add_job(engine)
    await queue(engine, job)
    async with engine.begin() as connection:
        await leases.hint(connection, RUNNERS)
    answer = await waiting
    assert [each["job"] for each in answer.json()["attempts"]] == [str(job.id)]


async def test_a_runner_is_not_made_to_wait_by_a_process_that_ends(
    app: Service, runner: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    waiting = asyncio.create_task(runner.post("/internal/v1/leases", json=ME, params={"wait": "20s"}))
    app.draining = True
    assert (await asyncio.wait_for(waiting, 5)).json() == {"attempts": []}


async def test_a_heartbeat_keeps_the_lease_and_says_whether_to_stop(
    runner: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    body = {"fence": granted.attempt.fence}
    assert (await runner.post(path_of(granted, "heartbeat"), json=body)).json() == {"stop": False}
    assert (await found(engine, granted)).lease_until > granted.attempt.lease_until
    async with engine.begin() as connection:
        await AttemptStore(connection).request_stop(granted.attempt)
    assert (await runner.post(path_of(granted, "heartbeat"), json=body)).json() == {"stop": True}


async def test_whatever_comes_under_an_older_fence_is_refused(
    runner: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    async with engine.begin() as connection:
        await AttemptStore(connection).regrant("h1", [], ttl=TTL)
    fence = {"fence": granted.attempt.fence}
    answers = [
        await runner.post(path_of(granted, "heartbeat"), json=fence),
        await runner.post(path_of(granted, "lines"), json=fence | {"entries": []}),
        await put(runner, granted),
        await finish(runner, granted),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, "stale-fence")] * 4
    assert (await found(engine, granted)).phase is AttemptPhase.RUNNING


async def test_lines_of_the_runner_stand_in_the_job_s_log(runner: httpx2.AsyncClient, granted: Granted) -> None:
    line = {"number": 1, "at": "2030-01-01T00:00:00Z", "level": "info", "message": "was started"}
    body = {"fence": granted.attempt.fence, "entries": [line]}
    for _ in range(2):
        assert (await runner.post(path_of(granted, "lines"), json=body)).status_code == 204
    [kept] = (await runner.get(f"/v1/jobs/{granted.attempt.job_id}/logs")).json()["items"]
    assert (kept["source"], kept["message"]) == ("runner", "was started")


async def test_outputs_are_kept_and_the_attempt_succeeds_with_them(
    runner: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted, settings: Settings
) -> None:
    for _ in range(2):
        assert (await put(runner, granted)).status_code == 204
    result = result_of([("skops", "model.skops", DIGEST, len(BYTES))])
    assert (await finish(runner, granted, result=result.to_json())).status_code == 204
    attempt = await found(engine, granted)
    assert (attempt.phase, attempt.result, attempt.exit_code) == (AttemptPhase.SUCCEEDED, result, 0)
    assert await blobs.BlobStore(settings.objects_url, "trainer").read("blue", DIGEST) == BYTES
    again = await finish(runner, granted, result=result.to_json())
    assert (again.status_code, again.json()["code"]) == (409, "attempt-over")


async def test_outputs_that_are_not_linked_are_nobody_s(
    runner: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    other = await grant(engine, await add_job(engine), host="h2")
    assert (await put(runner, other)).status_code == 204  # the same bytes, of another attempt
    result = result_of([("skops", "model.skops", DIGEST, len(BYTES))]).to_json()
    missing = await finish(runner, granted, result=result)
    assert (missing.status_code, missing.json()["code"]) == (422, "outputs-missing")
    assert (await found(engine, granted)).phase is AttemptPhase.RUNNING


async def test_an_output_of_another_size_or_a_success_without_a_model_is_refused(
    runner: httpx2.AsyncClient, granted: Granted
) -> None:
    await put(runner, granted)
    differs = await finish(runner, granted, result=result_of([("skops", "m", DIGEST, 1)]).to_json())
    assert (differs.status_code, differs.json()["code"]) == (422, "output-differs")
    nothing = await finish(runner, granted, result=result_of(model=None).to_json())
    assert (nothing.status_code, nothing.json()["code"]) == (422, "outputs-missing")
    broken = await finish(runner, granted, result={"outcome": "splendid"})
    assert (broken.status_code, broken.json()["code"]) == (422, "result-invalid")


async def test_bytes_that_are_not_those_of_the_digest_leave_nothing(
    runner: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    answer = await put(runner, granted, b"other bytes")
    assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
    assert (await put(runner, granted, digest="sha256:short")).status_code == 422
    async with engine.begin() as connection:
        assert await blobs.find(connection, "blue", DIGEST) is None


async def test_an_output_may_not_be_larger_than_is_taken(
    settings: Settings, key_folder: KeyFolder, granted: Granted
) -> None:
    small = create_app(settings.model_copy(update={"output_bytes": 3}))
    async with client_of(small, key_folder.headers("trainer", issuer="trainer", project="blue")) as runner:
        assert (await put(runner, granted)).status_code == 413


async def test_an_end_wakes_the_job_and_kills_the_token(
    runner: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    failure = {"reason": "inputs-unavailable", "message": "gone", "hint": ""}
    assert (await finish(runner, granted, exit_code=None, failure=failure)).status_code == 204
    attempt = await found(engine, granted)
    assert (attempt.phase, attempt.why.reason, attempt.why.message) == (
        AttemptPhase.FAILED,
        Reason.INPUTS_UNAVAILABLE,
        "gone",
    )
    async with engine.begin() as connection:
        assert await AttemptStore(connection).by_token(granted.token) is None
        job = await JobStore(connection).find("blue", attempt.job_id)
        assert job is not None
    assert job.generation > 1


async def test_of_two_ends_at_once_one_counts(
    runner: httpx2.AsyncClient, engine: AsyncEngine, granted: Granted
) -> None:
    answers = await asyncio.gather(*(finish(runner, granted, exit_code=code) for code in (1, 2)))
    assert sorted(answer.status_code for answer in answers) == [204, 409]


async def test_another_project_or_service_has_no_such_lease(
    app: Service, granted: Granted, key_folder: KeyFolder
) -> None:
    body = {"fence": granted.attempt.fence}
    async with client_of(app, key_folder.headers("trainer", issuer="trainer", project="red")) as other:
        assert (await other.post(path_of(granted, "heartbeat"), json=body)).status_code == 404
        unknown = await other.post(f"/internal/v1/leases/{uuid.uuid4()}/heartbeat", json=body)
        assert unknown.json()["code"] == "attempt-not-found"
    for issuer in ("gateway", "pipelines"):
        async with client_of(app, key_folder.headers("trainer", issuer=issuer, project="blue")) as user:
            assert (await user.post("/internal/v1/leases", json=ME)).status_code == 404
            assert (await user.post(path_of(granted, "heartbeat"), json=body)).status_code == 404


async def test_two_runners_that_ask_at_once_never_get_the_same(runner: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    for _ in range(4):
        await queue(engine, await add_job(engine))
    asked = [runner.post("/internal/v1/leases", json=ME | {"host": host}) for host in ("h1", "h2")]
    given = [each["attempt"] for answer in await asyncio.gather(*asked) for each in answer.json()["attempts"]]
    assert len(given) == len(set(given))

    async def all_given() -> bool:
        more = (await runner.post("/internal/v1/leases", json={"host": "h3", "slots": 4})).json()["attempts"]
        given.extend(each["attempt"] for each in more if each["attempt"] not in given)
        return len(given) == 4

    await eventually(all_given)
