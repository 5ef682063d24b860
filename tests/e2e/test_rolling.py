"""Two of each service behind one gateway, all ended and started anew in turn while they are asked without pause.

`TRAINYARD_ROLLING_ROUNDS` (1) and `TRAINYARD_ROLLING_RATE` (60 requests a second) make it larger: 5 and 400 are more
than 100,000 requests.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from releases import environment_of
from suites_at_work import Suite, until
from worlds import World

from trainyard_local import ports
from trainyard_local.leash import dies_with_parent

INNER = ("ingest", "trainer", "registry", "serving", "pipelines")
DRAIN = 3
ROUNDS = int(os.environ.get("TRAINYARD_ROLLING_ROUNDS", "1"))
RATE = float(os.environ.get("TRAINYARD_ROLLING_RATE", "60"))
FORCED = 3
"""The exit code of a process that cut requests off."""


@dataclass
class Copy:
    """One process of a service, told what the suite's own one is told, but for its place."""

    name: str
    service: str
    port: int
    env: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.service, "api"],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=dies_with_parent(),
            )
        until(self.is_ready, timedelta(seconds=60))

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
        return False

    def end(self) -> int:
        """Its exit code after SIGTERM."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def restart(self) -> None:
        assert self.end() == 0, self.log.read_text()[-4000:]
        self.start()


@dataclass
class Stage:
    """The doubled suite."""

    gateway: Copy
    copies: list[Copy]
    key: str
    model: str
    job: str

    def of(self, service: str) -> list[Copy]:
        return [copy for copy in self.copies if copy.service == service]

    def client(self) -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {self.key}"}
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=200)
        return httpx2.AsyncClient(
            base_url=self.gateway.url, headers=headers, timeout=30, trust_env=False, limits=limits
        )


@pytest.fixture
def stage(suite: Suite, world: World, tmp_path: Path) -> Iterator[Stage]:
    suite.start()
    with suite.client() as client:
        run = client.runs.wait(world.start(client, seed=1).id)
        assert run.phase == "succeeded"
        key, job = client._http.headers["Authorization"].removeprefix("Bearer "), next(iter(client.jobs.list())).id
    names = [f"{service}-{number}" for service in INNER for number in "ab"]
    places = ports.choose({}, [*names, "door"])

    def copy(name: str, service: str, **told: str) -> Copy:
        prefix = service.upper()
        own = {"PORT": str(places[name]), "WORK_DIR": str(tmp_path / name), "DRAIN_SECONDS": str(DRAIN), **told}
        env = environment_of(suite.pid(service)) | {f"{prefix}_{key}": value for key, value in own.items()}
        (tmp_path / name).mkdir()
        return Copy(name, service, places[name], env, tmp_path / f"{name}.log")

    copies = [copy(name, name.partition("-")[0]) for name in names]
    urls = {f"{service.upper()}_URL": ",".join(it.url for it in copies if it.service == service) for service in INNER}
    gateway = copy("door", "gateway", **urls)
    stage = Stage(gateway, copies, key, world.name, str(job))
    for it in (*copies, gateway):
        it.start()
    yield stage
    for it in (gateway, *copies):
        if it.process is not None and it.process.poll() is None:
            it.process.kill()
            it.process.wait()


@dataclass
class Load:
    """Requests at a steady rate, whatever becomes of those before them."""

    stage: Stage
    world: World
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        began, turns = time.monotonic(), itertools.count()
        async with self.stage.client() as http, asyncio.TaskGroup() as group:
            while not self.over.is_set():
                number = next(turns)
                group.create_task(self.ask(http, number))
                late = began + number / RATE - time.monotonic()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.over.wait(), max(late, 0.001))

    async def ask(self, http: httpx2.AsyncClient, number: int) -> None:
        kind, request = self.request(http, number)
        try:
            answered = await http.send(request)
        except httpx2.TransportError as exc:
            self.failures.append(f"{kind}: {exc!r}")
            return
        self.answers[kind] += 1
        if not answered.is_success:
            self.failures.append(f"{kind}: {answered.status_code} {answered.text}")
        elif kind == "follow" and "event: end" not in answered.text and "id: " not in answered.text:
            self.failures.append(f"{kind}: {answered.text}")

    def request(self, http: httpx2.AsyncClient, number: int) -> tuple[str, httpx2.Request]:
        match turn := number % 20:
            case 0:
                # Few different ones: so many may wait for a version, and the same bytes are the same upload.
                body = f"a\n{number // 20 % 40}\n".encode()
                return "upload", http.build_request("POST", "/v1/uploads", content=body)
            case 1:
                return "write", http.build_request("POST", "/v1/models", json={"name": f"m-{uuid4()}"})
            case 2:
                headers = {"idempotency-key": str(uuid4())}
                return "keyed", http.build_request("POST", "/v1/models", json={"name": f"m-{uuid4()}"}, headers=headers)
            case 3:
                headers = {"accept": "text/event-stream"}
                return "follow", http.build_request("GET", f"/v1/jobs/{self.stage.job}/logs", headers=headers)
            case 4:
                return "wait", http.build_request("GET", f"/v1/jobs/{self.stage.job}?wait=5s")
            case 5 | 6 | 7 | 8:
                noun = ("datasets", "models", "pipelines", "deployments")[turn - 5]
                return noun, http.build_request("GET", f"/v1/{noun}?page_size=5")
            case _:
                path = f"/v1/deployments/{self.stage.model}/predict"
                return "predict", http.build_request("POST", path, json={"rows": [self.world.row()]})


@contextlib.asynccontextmanager
async def under_load(stage: Stage, world: World) -> AsyncIterator[Load]:
    load = Load(stage, world)
    running = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.over.set()
        await running


async def test_every_copy_is_restarted_and_no_request_fails(stage: Stage, world: World) -> None:
    async with under_load(stage, world) as load:
        for _ in range(ROUNDS):
            for copy in stage.copies:
                await asyncio.to_thread(copy.restart)
    assert load.failures == []
    assert sum(load.answers.values()) >= 20 * RATE * ROUNDS
    assert min(load.answers.values()) > 0


async def test_what_is_under_way_is_finished_and_nothing_new_is_taken(stage: Stage) -> None:
    """Twenty uploads that take longer than the drain; a second SIGTERM changes nothing."""
    leaving, _ = stage.of("ingest")
    assert leaving.process is not None
    begun, go_on = [asyncio.Event() for _ in range(20)], asyncio.Event()

    async def body(number: int) -> AsyncIterator[bytes]:
        yield f"a\n{uuid4()}\n".encode()
        begun[number].set()
        await go_on.wait()
        yield b"1\n"

    async with stage.client() as http:
        uploads = [asyncio.create_task(http.post("/v1/uploads", content=body(number))) for number in range(20)]
        await asyncio.gather(*(it.wait() for it in begun))
        ending = asyncio.create_task(asyncio.to_thread(leaving.end))
        await asyncio.to_thread(until, lambda: not leaving.is_ready(), timedelta(seconds=5))
        leaving.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: not takes(leaving.port), timedelta(seconds=DRAIN + 10))
        assert not ending.done()
        go_on.set()
        assert [(await it).status_code for it in uploads] == [201] * 20
        assert await ending == 0


async def test_who_exceeds_the_grace_is_cut_off_and_the_exit_code_says_so(stage: Stage) -> None:
    leaving, other = stage.of("ingest")
    assert await asyncio.to_thread(leaving.end) == 0
    leaving.env |= {"INGEST_DRAIN_SECONDS": "0", "INGEST_GRACE_SECONDS": "1"}
    await asyncio.to_thread(leaving.start)
    assert await asyncio.to_thread(other.end) == 0
    begun = asyncio.Event()
    stopped = asyncio.get_running_loop().create_future()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"1\n" * 2048
            begun.set()
            await asyncio.wait({stopped}, timeout=0.2)  # slow enough to fill no disk

    async with stage.client() as http:
        upload = asyncio.create_task(http.post("/v1/uploads", content=endless()))
        await begun.wait()
        assert await asyncio.to_thread(leaving.end) == FORCED
        with contextlib.suppress(httpx2.TransportError):
            assert (await upload).status_code == 503
        await asyncio.to_thread(leaving.start)
        assert (await http.post("/v1/uploads", content=b"a\n1\n")).status_code == 201  # it is there for the next try


async def test_the_gateway_ends_when_all_is_answered(stage: Stage) -> None:
    stage.gateway.env["GATEWAY_DRAIN_SECONDS"] = "1"
    await asyncio.to_thread(stage.gateway.restart)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"a\n"
        begun.set()
        await go_on.wait()
        yield b"1\n"

    async with stage.client() as http:
        upload = asyncio.create_task(http.post("/v1/uploads", content=body()))
        await begun.wait()
        ending = asyncio.create_task(asyncio.to_thread(stage.gateway.end))
        await asyncio.to_thread(until, lambda: not takes(stage.gateway.port), timedelta(seconds=10))
        go_on.set()
        assert (await upload).status_code == 201
        assert await ending == 0


def takes(port: int) -> bool:
    """Whether somebody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False
