"""What a job says wakes those who follow it, also in another process of the API, when there is a Redis."""

import asyncio
from typing import Any

import pytest
from makers import add_job
from pydantic import SecretStr
from requests_made import grant
from sqlalchemy.ext.asyncio import AsyncEngine
from test_api_attempts import BODIES, path_of

from kit.live import Live
from kit.testing import KeyFolder, client_of, eventually
from kit.testing_redis import RedisServer, redis_server
from trainer.app import create_app
from trainer.settings import Settings

redis = pytest.fixture(redis_server)


@pytest.mark.parametrize("kind", ["logs", "metrics"])
async def test_a_line_is_told_in_every_process_once_it_is_kept(
    redis: RedisServer, engine: AsyncEngine, settings: Settings, key_folder: KeyFolder, kind: str
) -> None:
    redis.start()
    granted = await grant(engine, await add_job(engine))
    headers = {"authorization": f"Bearer {granted.token}"}
    told = create_app(settings.model_copy(update={"redis_url": SecretStr(redis.url)}))
    other, stop = Live("trainer", redis.url), asyncio.Event()
    running = asyncio.create_task(other.run(stop))
    async with client_of(told, key_folder.headers("trainer", project="blue")) as client:
        await eventually(lambda: redis.answers() and redis.ask("PUBSUB", "CHANNELS") != [])
        await eventually(lambda: redis.ask("PUBSUB", "NUMSUB", redis.ask("PUBSUB", "CHANNELS")[0])[1] == 2)
        with other.follow(str(granted.attempt.job_id)) as wake:
            wake.clear()
            assert (await client.post(path_of(granted, kind), json=BODIES[kind], headers=headers)).status_code == 204
            await asyncio.wait_for(wake.wait(), 10)
            kept: list[Any] = (await client.get(f"/v1/jobs/{granted.attempt.job_id}/{kind}")).json()["items"]
            assert len(kept) == 1
    stop.set()
    await running


async def test_without_its_redis_a_job_says_the_same(
    engine: AsyncEngine, settings: Settings, key_folder: KeyFolder
) -> None:
    granted = await grant(engine, await add_job(engine))
    headers = {"authorization": f"Bearer {granted.token}"}
    alone = create_app(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))
    async with client_of(alone, key_folder.headers("trainer", project="blue")) as client:
        for kind, body in BODIES.items():
            assert (await client.post(path_of(granted, kind), json=body, headers=headers)).status_code == 204
            assert len((await client.get(f"/v1/jobs/{granted.attempt.job_id}/{kind}")).json()["items"]) == 1
