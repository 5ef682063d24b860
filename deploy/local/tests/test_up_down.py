"""The whole of `up`, `down` and `status` with a real PostgreSQL, and small programs in place of the services."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import fake_services
import psycopg
import pytest
from measuring import measured

from kit.testing import eventually
from trainyard_local import board as boards
from trainyard_local import ports
from trainyard_local.home import SERVICES, Home

PROGRAMS = {"postgres", "runner", *SERVICES}


class Machine:
    """A home, a port, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.port = ports.choose({}, ["gateway"])["gateway"]
        self.path = fake_services.install(folder / "services")
        self.extra = measured(self.path)

    def env(self) -> dict[str, str]:
        chosen = {"TRAINYARD_HOME": str(self.home.folder), "TRAINYARD_PORT": str(self.port)}
        return {**os.environ, **chosen, **self.extra, "PYTHONPATH": str(self.path)}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "trainyard_local", *arguments],
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def up(self) -> None:
        done = self.run("up")
        assert done.returncode == 0, done.stderr

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.run("status", "-o", "json").stdout)
        return status

    def programs(self) -> dict[str, dict[str, Any]]:
        programs: dict[str, dict[str, Any]] = boards.read(self.home.state)["programs"]
        return programs

    def is_whole_without(self, killed: int) -> bool:
        """All is ready, and this process is no part of it."""
        return all(program["ready"] and program["pid"] != killed for program in self.programs().values())


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="trainyard-"))
    machine = Machine(folder)
    yield machine
    machine.run("down")
    shutil.rmtree(folder)


async def test_up_down_up_keeps_everything(machine: Machine) -> None:
    machine.up()
    status = machine.status()
    assert status["phase"] == "up"
    assert status["url"] == f"http://127.0.0.1:{machine.port}"
    assert {program["name"] for program in status["programs"]} == {*PROGRAMS, "supervisor"}
    assert all(program["ready"] and program["memory"] > 0 for program in status["programs"])
    credentials = machine.home.credentials.read_text()
    before = {name: entry["port"] for name, entry in machine.programs().items()}

    assert "Stopped" in machine.run("down").stderr
    assert machine.status()["running"] is False
    assert machine.run("status").returncode == 1

    again = json.loads(machine.run("up", "-o", "json").stdout)
    assert again["url"] == status["url"]
    assert again["credentials"] == str(machine.home.credentials)
    assert machine.home.credentials.read_text() == credentials
    shown = machine.run("status").stdout
    assert all(name in shown for name in ("gateway", "memory", str(machine.port), "total"))
    assert {name: entry["port"] for name, entry in machine.programs().items()} == before
    passwords = json.loads((machine.home.keys / "databases.json").read_text())
    url = f"postgresql://registry:{passwords['registry']}@/trainyard?host={machine.home.run}"
    with psycopg.connect(url) as session:
        assert session.execute("select count(*) from migrated").fetchone() == (2,)


async def test_every_program_is_back_within_five_seconds(machine: Machine) -> None:
    machine.up()
    for name in sorted(PROGRAMS):
        killed = machine.programs()[name]["pid"]
        os.kill(killed, signal.SIGKILL)
        await eventually(partial(machine.is_whole_without, killed), timedelta(seconds=5))
    assert all(program["restarts"] == 1 for program in machine.programs().values())


async def test_nothing_outlives_a_killed_supervisor_and_up_starts_again(machine: Machine) -> None:
    machine.up()
    pids = [program["pid"] for program in machine.programs().values()]
    os.kill(boards.read(machine.home.state)["pid"], signal.SIGKILL)
    await eventually(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), timedelta(seconds=5))
    assert machine.status()["running"] is False
    machine.up()


async def test_reconcilers_can_have_processes_of_their_own(machine: Machine) -> None:
    machine.extra["TRAINYARD_RECONCILERS"] = "2"
    machine.up()
    extra = {f"{service}-{n}" for service in SERVICES for n in range(2)}
    assert set(machine.programs()) == PROGRAMS | extra
    assert len({entry["port"] for entry in machine.programs().values()} - {None}) == len(SERVICES) * 3


async def test_up_twice_at_once_starts_one_suite(machine: Machine) -> None:
    both = [machine.start("up"), machine.start("up")]
    for process in both:
        with process:
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
    pid = boards.read(machine.home.state)["pid"]
    machine.up()
    assert boards.read(machine.home.state)["pid"] == pid
    refused = machine.run("up", "--port", str(machine.port + 1))
    assert refused.returncode == 1
    assert "up at" in refused.stderr


async def test_a_port_that_is_taken_is_named_with_the_way_to_change_it(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", machine.port)):
        refused = machine.run("up")
    assert refused.returncode == 1
    assert f"Port {machine.port}" in refused.stderr
    assert "TRAINYARD_PORT=" in refused.stderr


async def test_nobody_else_can_enter_the_home(machine: Machine) -> None:
    machine.home.folder.mkdir(mode=0o755)
    machine.up()
    for path in [machine.home.folder, *machine.home.folder.iterdir()]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    for secret in machine.home.keys.iterdir():
        assert stat.S_IMODE(secret.stat().st_mode) == (0o644 if secret.name == "public.json" else 0o600)


async def test_a_migration_that_fails_is_told_and_nothing_stays(machine: Machine) -> None:
    (machine.path / "registry" / "__main__.py").write_text("raise SystemExit('no such column')")
    failed = machine.run("up")
    assert failed.returncode == 1
    assert "migrate-registry failed" in failed.stderr
    assert "no such column" in failed.stderr
    assert machine.status()["running"] is False
    assert machine.programs()["postgres"]["pid"] is None


async def test_down_in_the_middle_of_up(machine: Machine) -> None:
    (machine.path / "serving" / "__main__.py").write_text(
        "import sys, threading\nif sys.argv[1] != 'migrate': threading.Event().wait()"
    )
    with machine.start("up") as starting:
        state = partial(boards.read, machine.home.state)
        await eventually(lambda: state().get("programs", {}).get("serving", {}).get("pid"), timedelta(seconds=60))
        assert machine.run("down").returncode == 0
        _, err = starting.communicate(timeout=30)
    assert starting.returncode == 1
    assert "before it was ready" in err


async def test_down_where_nothing_runs(machine: Machine) -> None:
    assert "Nothing was running" in machine.run("down").stderr
    assert "Nothing runs in" in machine.run("status").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a user namespace")
async def test_root_without_user_namespaces_is_told_what_to_do(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    machine.extra["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    refused = machine.run("up")
    assert refused.returncode == 1
    assert "Run the suite as another user" in refused.stderr
