"""Which programs make up the suite, what each is told, and the order in which they start and stop."""

import asyncio
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path

import psycopg

from kit import databases
from trainyard_local import ports, postgres
from trainyard_local.board import Board, Phase
from trainyard_local.home import SERVICES, Home, Refused, write_private
from trainyard_local.programs import Program
from trainyard_local.supervisor import Supervisor, run_once

DATABASE = "trainyard"
TRIES = 5
SHORTLY = 2.0
"""Seconds in which most requests are answered."""


@dataclasses.dataclass(frozen=True)
class Suite:
    """All that has to be known to start a program of it."""

    home: Home
    sockets: Path
    ports: Mapping[str, int]
    passwords: Mapping[str, str]
    reconcilers: int
    """Processes of their own for each service's reconcilers; with 0 they run beside the API, in one process."""
    objects: str
    """Where bytes are kept: `file:///folder` or `s3://bucket`."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}"

    def admin_url(self, database: str) -> str:
        return postgres.url_of(self.sockets, postgres.SUPERUSER, self.passwords[postgres.SUPERUSER], database)

    def env(self, service: str) -> dict[str, str]:
        """What one service is told, by its own prefix."""
        told = {
            "DATABASE_URL": postgres.url_of(self.sockets, service, self.passwords[service], DATABASE),
            "HOST": "127.0.0.1",
            "PORT": str(self.ports[service]),
            "OBJECTS_URL": self.objects,
            "PRIVATE_KEY_FILE": str(self.home.keys / f"{service}.private.json"),
            "PUBLIC_KEYS_FILE": str(self.home.keys / "public.json"),
            "WORK_DIR": str(self.home.work / service),
        }
        told |= {f"{peer.upper()}_URL": f"http://127.0.0.1:{self.ports[peer]}" for peer in SERVICES}
        # No proxy of the outside reaches this machine's loopback. Each thread's own heap costs more than it gives here.
        shared = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost", "MALLOC_ARENA_MAX": "2"}
        return {f"{service.upper()}_{name}": value for name, value in told.items()} | shared


def suite_of(home: Home, port: int, environment: Mapping[str, str]) -> Suite:
    """The suite in this home, with the ports it had when they are free."""
    reconcilers = int(environment.get("TRAINYARD_RECONCILERS", "0"))
    extra = [f"{service}-{n}" for service in SERVICES for n in range(reconcilers)]
    kept = home.run / "ports.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    inner = ports.choose(known, [*(service for service in SERVICES if service != "gateway"), *extra])
    write_private(kept, known | inner)
    return Suite(
        home=home,
        sockets=postgres.socket_folder(home.folder),
        ports=inner | {"gateway": port},
        passwords=home.passwords([postgres.SUPERUSER, *SERVICES]),
        reconcilers=reconcilers,
        objects=environment.get("TRAINYARD_OBJECTS_URL") or home.objects.as_uri(),
    )


def _database(suite: Suite) -> Program:
    return Program(
        name="postgres",
        argv=tuple(postgres.command(suite.home.data, suite.sockets)),
        probe=lambda: asyncio.to_thread(postgres.answers, suite.admin_url("postgres")),
        before=lambda: postgres.make_way(suite.home.data),
        stops_by=signal.SIGINT,  # sessions end, everything is written down
        orphaned_by=signal.SIGQUIT,
    )


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)


def _services(suite: Suite) -> list[Program]:
    mode = "api" if suite.reconcilers else "all"
    programs = [
        Program(service, _python(service, mode), suite.env(service), suite.ports[service]) for service in SERVICES
    ]
    for service in SERVICES:
        for n in range(suite.reconcilers):
            env = suite.env(service) | {f"{service.upper()}_PORT": str(suite.ports[f"{service}-{n}"])}
            programs.append(
                Program(f"{service}-{n}", _python(service, "reconcile"), env, suite.ports[f"{service}-{n}"])
            )
    return [*programs, Program("runner", _python("trainer", "runner"), suite.env("trainer"))]


async def start(suite: Suite, supervisor: Supervisor, board: Board) -> None:
    """Bring everything up, each part when what it needs is there."""
    home = suite.home
    board.say("starting PostgreSQL")
    await asyncio.to_thread(postgres.initialise, home.data, suite.passwords[postgres.SUPERUSER])
    supervisor.start(_database(suite))
    await supervisor.ready("postgres")
    board.say("preparing the database")
    roles = {service: suite.passwords[service] for service in SERVICES}
    await _patiently(lambda: asyncio.to_thread(databases.prepare, suite.admin_url, DATABASE, roles))
    await _command("keys", _python("kit", "keys", "init", "--dir", str(home.keys), *SERVICES), {}, home)
    await _migrate(suite)
    board.say("starting the services")
    programs = _services(suite)
    for program in programs:
        supervisor.start(program)
    await supervisor.ready(*(program.name for program in programs))
    board.say("making the first key")
    await _bootstrap(suite)


async def _migrate(suite: Suite) -> None:
    # Each is a second of imports; more at once than there are processors would only be slower.
    turns = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(service: str) -> None:
        async with turns:
            await _command(f"migrate-{service}", _python(service, "migrate"), suite.env(service), suite.home)

    async with asyncio.TaskGroup() as group:
        for service in SERVICES:
            group.create_task(one(service))


async def _bootstrap(suite: Suite) -> None:
    arguments = ["bootstrap", "--credentials", str(suite.home.credentials), "--url", suite.url]
    await _command("bootstrap", _python("gateway", *arguments), suite.env("gateway"), suite.home)


async def _command(name: str, argv: tuple[str, ...], env: Mapping[str, str], home: Home) -> None:
    await _patiently(lambda: run_once(argv, env, home.log(name), within=timedelta(minutes=2)))


async def _patiently(act: Callable[[], Awaitable[None]]) -> None:
    """All that is done here can be done twice, and the database may have been killed in the middle."""
    for last in (False,) * (TRIES - 1) + (True,):
        try:
            return await act()
        except (Refused, psycopg.Error):
            if last:
                raise
            await asyncio.sleep(0.5)
    return None


async def stop(supervisor: Supervisor, board: Board) -> None:
    """The door first, so that those behind it still answer what is on its way; the database last.

    Once the door takes nothing new, what it still waits for is for those behind it to end: they let go of whoever waits
    for something to happen when they are told to stop, and not before.
    """
    board.say("answering what is on its way", Phase.STOPPING)
    door = asyncio.create_task(supervisor.stop("gateway"))
    await asyncio.wait({door}, timeout=SHORTLY)
    board.say("stopping the services")
    await supervisor.stop(*(name for name in board.programs if name not in ("gateway", "postgres")))
    await door
    board.say("stopping PostgreSQL")
    await supervisor.stop("postgres")
