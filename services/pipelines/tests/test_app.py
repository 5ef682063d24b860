"""The whole process: its loops follow the neighbours' feeds, and it starts without any of them."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import uvicorn
from neighbours import Neighbour
from sqlalchemy.ext.asyncio import AsyncEngine
from worlds import World, main_job

from kit.events import Event, Feed
from kit.testing import DatabaseUrl, KeyFolder, eventually
from pipelines import __main__
from pipelines.app import loops
from pipelines.domain.runs import FINAL
from pipelines.settings import Settings

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Door:
    """A neighbour behind a real socket, with the feed of its events."""

    def __init__(self, neighbour: Neighbour) -> None:
        self.neighbour = neighbour
        self.events: list[Event] = []
        self.happened = asyncio.Event()
        self.followed = False

    def tell(self, subject: str) -> None:
        at = datetime.now(UTC)
        number = f"1:{len(self.events) + 1}"
        self.events.append(Event(id=number, project="blue", kind="x", subject=subject, data={}, at=at))
        self.happened.set()

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        assert scope["type"] == "http"
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"] == "/internal/v1/events":
            status, headers, content = 200, {"content-type": "application/json"}, await self._feed(scope)
        else:
            request = httpx2.Request(
                scope["method"], f"http://x{scope['path']}", headers=dict(scope["headers"]), content=body
            )
            answer = await self.neighbour(request)
            status, content = answer.status_code, answer.content
            headers = {name: value for name, value in answer.headers.items() if name in ("content-type", "etag")}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content})

    async def _feed(self, scope: dict[str, Any]) -> bytes:
        self.followed = True
        after = int(scope["query_string"].decode().split("after=")[1].split("&")[0].split("%3A")[-1].split(":")[-1])
        while len(self.events) <= after:
            self.happened.clear()
            await self.happened.wait()
        return Feed(events=self.events[after:], cursor=self.events[-1].id).model_dump_json().encode()


@asynccontextmanager
async def served(door: Door) -> AsyncIterator[str]:
    config = uvicorn.Config(door, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        door.happened.set()
        await task


async def test_a_run_passes_through_a_real_process(
    world: World, engine: AsyncEngine, database_url: DatabaseUrl, key_folder: KeyFolder
) -> None:
    """Every step that waits is woken by its neighbour's event, long before the poll."""
    world.trainer.at_once = False
    doors = {it.name: Door(it) for it in (world.ingest, world.trainer, world.registry, world.serving)}
    stop = asyncio.Event()
    async with (
        served(doors["ingest"]) as ingest,
        served(doors["trainer"]) as trainer,
        served(doors["registry"]) as registry,
        served(doors["serving"]) as serving,
    ):
        settings = Settings.model_validate(
            {
                "database_url": database_url("pipelines"),
                "private_key_file": key_folder.private("pipelines"),
                "public_keys_file": key_folder.public,
                "ingest_url": ingest,
                "trainer_url": trainer,
                "registry_url": registry,
                "serving_url": serving,
            }
        )
        work = asyncio.create_task(loops(settings, stop))
        await eventually(lambda: doors["trainer"].followed and doors["ingest"].followed and doors["serving"].followed)
        run_id = await world.start(main_job())
        await eventually(lambda: bool(world.trainer.jobs))
        [job_id] = world.trainer.jobs

        async def awaits() -> bool:
            return bool((await world.steps(run_id))["train"].memo)

        await eventually(awaits)
        world.trainer.finish(job_id)
        doors["trainer"].tell(job_id)
        await eventually(lambda: over(world, run_id), timedelta(seconds=20))
        stop.set()
        await work
    assert (await world.run(run_id)).phase == "succeeded"
    gate = (await world.steps(run_id))["gate"]
    assert gate.outputs == {"passed": True, "require": main_job()["steps"]["gate"]["with"]["require"]}


async def over(world: World, run_id: uuid.UUID) -> bool:
    return (await world.run(run_id)).phase in FINAL


def test_it_migrates_by_its_name(
    empty_database_url: str, key_folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "DATABASE_URL": empty_database_url,
        "PRIVATE_KEY_FILE": str(key_folder.private("pipelines")),
        "PUBLIC_KEYS_FILE": str(key_folder.public),
        **{f"{peer}_URL": "http://127.0.0.1:1" for peer in ("INGEST", "TRAINER", "REGISTRY", "SERVING")},
    }.items():
        monkeypatch.setenv(f"PIPELINES_{name}", value)
    assert __main__.main(["migrate"]) == 0
