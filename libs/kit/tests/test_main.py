"""How a service is started and ended, as a real process."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import httpx2
import psycopg
import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from kit import main
from kit.server import listen
from kit.testing import DatabaseUrl, KeyFolder, eventually

from .lamps.app import Settings, create_app

HERE = Path(__file__).parent
BASE = "http://127.0.0.1"
LONG = timedelta(seconds=60)
"""A process begins within seconds, on a machine that does nothing else."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as it:
        return int(it.getsockname()[1])


class Process:
    def __init__(self, process: asyncio.subprocess.Process, folder: Path, port: int) -> None:
        self.pid = process.pid
        self.folder = folder
        self.log: list[dict[str, object]] = []
        self.client = httpx2.AsyncClient(base_url=f"{BASE}:{port}", trust_env=False)
        self._process = process

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    async def is_ready(self) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return (await self.client.get("/readyz")).status_code == 200
        return False

    async def ended(self) -> int:
        async with asyncio.timeout(60):
            _, err = await self._process.communicate()
        self.log = [json.loads(line) for line in err.decode().splitlines()]
        assert self._process.returncode is not None
        return self._process.returncode

    def said(self, event: str) -> list[dict[str, object]]:
        return [line for line in self.log if line["event"] == event]

    async def close(self) -> None:
        await self.client.aclose()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()


class Starter:
    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.started: list[Process] = []

    async def __call__(self, *argv: str, port: int | None = None, **environment: str) -> Process:
        port = port or free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "lamps",
            *argv,
            env={**os.environ, "PYTHONPATH": str(HERE), **self.environment, "LAMPS_PORT": str(port), **environment},
            stderr=asyncio.subprocess.PIPE,
        )
        self.started.append(Process(process, self.folder, port))
        return self.started[-1]


@pytest.fixture
def environment(database_url: DatabaseUrl, key_folder: KeyFolder, tmp_path: Path) -> dict[str, str]:
    return {
        "LAMPS_DATABASE_URL": database_url("lamps"),
        "LAMPS_PRIVATE_KEY_FILE": str(key_folder.private("ingest")),
        "LAMPS_PUBLIC_KEYS_FILE": str(key_folder.public),
        "LAMPS_WORK_DIR": str(tmp_path),
        "LAMPS_GRACE_SECONDS": "5",
    }


@pytest.fixture
async def start(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Starter]:
    starter = Starter(tmp_path, environment)
    yield starter
    for process in starter.started:
        await process.close()


@pytest.mark.parametrize(
    ("mode", "serves", "loops"), [("api", 401, False), ("reconcile", 401, True), ("all", 401, True)]
)
async def test_a_process_is_ready_does_its_work_and_ends_well(
    start: Starter, key_folder: KeyFolder, mode: str, serves: int, loops: bool
) -> None:
    process = await start(mode)
    await eventually(process.is_ready, LONG)
    assert (await process.client.get("/livez")).json() == {"live": True}
    assert "trainyard_requests_total" in (await process.client.get("/metrics")).text
    assert (await process.client.get("/v1/lamps")).status_code == serves
    if mode != "reconcile":
        lamps = await process.client.get("/v1/lamps", headers=key_folder.headers("lamps"))
        assert lamps.status_code == 200
    if loops:
        await eventually(lambda: process.has("running"), LONG)
    os.kill(process.pid, signal.SIGTERM)
    assert await process.ended() == 0
    assert process.has("ended") is loops
    assert process.said("ended")[0]["code"] == 0


async def test_sigterm_takes_readiness_away_and_answers_what_was_begun(start: Starter) -> None:
    process = await start("all", LAMPS_DRAIN_SECONDS="1")
    await eventually(process.is_ready, LONG)
    slow = asyncio.create_task(process.client.get("/v1/slow", timeout=20))
    await eventually(lambda: process.has("begun"), LONG)
    os.kill(process.pid, signal.SIGTERM)

    async def draining() -> bool:
        answer = await process.client.get("/readyz")
        return answer.status_code == 503 and answer.json() == {"ready": False, "draining": True}

    await eventually(draining)
    (process.folder / "go").touch()
    assert (await slow).json() == "done"
    assert await process.ended() == 0


async def test_a_long_poll_does_not_hold_up_the_end(start: Starter, key_folder: KeyFolder) -> None:
    process = await start("api", LAMPS_GRACE_SECONDS="60")
    await eventually(process.is_ready, LONG)
    headers = key_folder.headers("lamps", issuer="trainer")
    path = "/internal/v1/events?wait=60s&after=9:9"
    waiting = asyncio.create_task(process.client.get(path, headers=headers, timeout=70))

    async def is_held() -> bool:
        return "in_flight 2.0" in (await process.client.get("/metrics")).text

    await eventually(is_held)
    os.kill(process.pid, signal.SIGTERM)
    assert await process.ended() == 0
    assert (await waiting).json()["events"] == []


async def test_what_outlasts_the_grace_is_cut_off_and_the_exit_code_says_so(start: Starter) -> None:
    process = await start("api", LAMPS_GRACE_SECONDS="1")
    await eventually(process.is_ready, LONG)
    slow = asyncio.create_task(process.client.get("/v1/slow", timeout=20))
    await eventually(lambda: process.has("begun"), LONG)
    os.kill(process.pid, signal.SIGINT)
    assert await process.ended() == main.UNFINISHED
    with contextlib.suppress(httpx2.TransportError):
        assert (await slow).status_code == 500


@pytest.mark.parametrize("mode", ["api", "reconcile", "all"])
async def test_a_port_that_is_taken_ends_the_process(start: Starter, mode: str) -> None:
    with listen("127.0.0.1", 0) as taken:
        process = await start(mode, port=taken.getsockname()[1])
        assert await process.ended() == main.FAILED
    assert "in use" in str(process.said("failed")[0]["exception"])
    assert process.has("ended") is process.has("running")


@pytest.mark.parametrize(("mode", "cause"), [("all", "fail"), ("reconcile", "fail"), ("api", "fail-beside")])
async def test_a_loop_that_fails_ends_the_process_and_cuts_nothing_off(start: Starter, mode: str, cause: str) -> None:
    process = await start(mode)
    await eventually(process.is_ready, LONG)
    slow = None
    if mode != "reconcile":
        slow = asyncio.create_task(process.client.get("/v1/slow", timeout=20))
        await eventually(lambda: process.has("begun"), LONG)
    (process.folder / cause).touch()
    (process.folder / "go").touch()
    assert await process.ended() == main.FAILED
    assert any("asked to fail" in str(line.get("exception")) for line in process.log)
    if slow is not None:
        assert (await slow).json() == "done"


async def test_an_application_that_cannot_begin_ends_the_process(start: Starter) -> None:
    (start.folder / "refuse-start").touch()
    process = await start("all")
    assert await process.ended() == main.FAILED
    assert process.has("ended") is process.has("running")


async def test_migrate_brings_a_new_database_up_to_date_also_from_many_at_once(
    start: Starter, empty_database_url: str
) -> None:
    many = [await start("migrate", LAMPS_DATABASE_URL=empty_database_url) for _ in range(3)]
    assert [await process.ended() for process in many] == [0, 0, 0]
    with psycopg.connect(empty_database_url.replace("+psycopg", "")) as session:
        assert session.execute("select count(*) from lamps").fetchone() == (0,)


async def test_migrate_waits_for_a_database_that_is_not_there_yet(start: Starter, empty_database_url: str) -> None:
    real, came = sa.make_url(empty_database_url), 0
    socket_of = f"{real.query['host']}/.s.PGSQL.{real.port or real.query.get('port', 5432)}"

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        if came > 1:
            there = await asyncio.open_unix_connection(socket_of)
            await asyncio.gather(_pipe(reader, there[1]), _pipe(there[0], writer))
        writer.close()

    with tempfile.TemporaryDirectory() as folder:
        async with await asyncio.start_unix_server(door, f"{folder}/.s.PGSQL.5432"):
            url = real.set(query={"host": folder}).render_as_string(hide_password=False)
            process = await start("migrate", "--wait=30", LAMPS_DATABASE_URL=url)
            code = await process.ended()
    assert (code, came > 1) == (0, True), process.log


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_migrate_waits_for_so_long_and_says_what_is_away(start: Starter) -> None:
    url = f"postgresql://u:hush-hush@127.0.0.1:{free_port()}/d"
    process = await start("migrate", "--wait=0.1", LAMPS_DATABASE_URL=url)

    assert await process.ended() == main.FAILED
    why = str(process.said("not migrated")[0]["why"])
    assert "refused" in why
    assert "hush" not in why


async def test_a_command_of_the_services_own_gets_its_arguments(start: Starter, tmp_path: Path) -> None:
    process = await start("name", str(tmp_path / "host"))
    assert await process.ended() == 7
    assert (tmp_path / "host").read_text() == "127.0.0.1"


async def test_a_setting_that_is_missing_or_wrong_ends_the_process_and_is_named(start: Starter) -> None:
    del start.environment["LAMPS_PRIVATE_KEY_FILE"]
    process = await start("api", LAMPS_GRACE_SECONDS="-1")
    assert await process.ended() == main.FAILED
    settings = process.said("settings are not right")[0]["settings"]
    assert isinstance(settings, dict)
    assert set(settings) == {"LAMPS_PRIVATE_KEY_FILE", "LAMPS_GRACE_SECONDS"}


# What follows runs in this process, where its lines are counted.


@pytest.fixture
def chosen(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    for name, value in {**environment, "LAMPS_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield Settings()
    root.handlers[:] = handlers
    root.setLevel(level)


async def ends_at_once(settings: Settings, stop: asyncio.Event) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.wait()


async def fails(settings: Settings, stop: asyncio.Event) -> None:
    raise RuntimeError("a loop failed")


def run(mode: str, *rest: str, loops: main.Loops[Settings] = ends_at_once) -> int:
    def own(settings: Settings, argv: object) -> int:
        return 7

    return main.run(
        "lamps", settings=Settings, create_app=create_app, loops=loops, commands={"own": own}, argv=[mode, *rest]
    )


@pytest.mark.parametrize(("mode", "code"), [("all", 0), ("reconcile", 0), ("migrate", 0), ("verify", 0), ("own", 7)])
def test_every_mode_has_its_exit_code(chosen: Settings, mode: str, code: int) -> None:
    assert run(mode) == code


def test_a_failure_is_an_exit_code_too(chosen: Settings) -> None:
    assert run("all", loops=fails) == main.FAILED


@pytest.mark.parametrize("cause", ["refuse-start", "fail-beside"])
def test_an_application_that_does_not_begin_or_end_well_is_a_failure(chosen: Settings, cause: str) -> None:
    (chosen.work_dir / cause).touch()
    assert run("api") == main.FAILED


@pytest.mark.parametrize("arguments", [("api", "--fast"), ("fly",), ()])
def test_what_cannot_be_understood_is_refused(
    chosen: Settings, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main.run("lamps", settings=Settings, create_app=create_app, loops=fails, argv=list(arguments))
    assert refused.value.code == 2
    assert "python -m lamps" in capsys.readouterr().err


def test_settings_that_are_wrong_are_named_without_their_values(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMPS_PORT", "many")
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert chosen.url not in str(refused.value)
    assert "many" not in str(refused.value)
    assert run("api") == main.FAILED


@pytest.mark.parametrize("name", ["LAMPS_PRIVATE_KEY_FILE", "LAMPS_PUBLIC_KEYS_FILE"])
@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"issuer": "x", "keys": [{"kty": "OKP"}]}'])
def test_files_that_hold_no_keys_are_found_at_the_start(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "keys.json").write_text(content)
    monkeypatch.setenv(name, str(tmp_path / "keys.json"))
    assert run("api") == main.FAILED
    assert run("own") == 7  # it may need none


@pytest.mark.parametrize("options", [(), ("--wait=0.1",)])
def test_a_migration_without_a_database_is_a_failure(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("LAMPS_DATABASE_URL", f"postgresql://u:hush-hush@127.0.0.1:{free_port()}/d")
    assert run("migrate", *options) == main.FAILED


def test_what_is_set_to_nothing_is_not_set(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMPS_GRACE_SECONDS", "")
    assert Settings().grace_seconds == 25
    monkeypatch.setenv("LAMPS_DATABASE_URL", "")
    with pytest.raises(ValidationError, match="database_url"):
        Settings()


@pytest.mark.parametrize(
    "url", ["hush", "mysql://u:hush@h/d", "postgresql://u:hush@h:port/d", "postgresql://u:U@h/d", "postgresql://u:@h/d"]
)
def test_an_address_that_no_service_starts_with_is_told_without_it(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("LAMPS_DATABASE_URL", url)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert "hush" not in str(refused.value)


def test_a_role_without_a_password_is_known_in_another_way(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMPS_DATABASE_URL", "postgresql://u@h/d")
    assert Settings().url == "postgresql+psycopg://u@h/d"


def test_settings_are_spans_and_plain_urls(chosen: Settings) -> None:
    assert chosen.url.startswith("postgresql+psycopg://")
    assert chosen.url not in repr(chosen)
    assert (chosen.drain.total_seconds(), chosen.grace.total_seconds()) == (0, 5)
