"""Programs that end, hang, refuse to end, and never get ready; the supervisor itself killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from kit.testing import eventually
from trainyard_local import board as boards
from trainyard_local import logs, memory, ports, suite
from trainyard_local.board import Board, Entry
from trainyard_local.home import Refused
from trainyard_local.programs import Program
from trainyard_local.supervisor import Supervisor, run_once

SERVER = """
import http.server, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


DOOR = """
import pathlib, signal, sys, time
folder, stopping = pathlib.Path(sys.argv[1]), []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
(folder / "door.begun").touch()
while not (stopping and (folder / "let.go").exists()):
    time.sleep(0.02)
(folder / "door.ended").touch()
"""
BEHIND = """
import pathlib, signal, sys, threading
asked = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: asked.set())
(pathlib.Path(sys.argv[1]) / "behind.begun").touch()
while not asked.wait(0.02): pass
(pathlib.Path(sys.argv[1]) / "let.go").touch()
"""


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *arguments)


@asynccontextmanager
async def running(folder: Path, *programs: Program) -> AsyncIterator[tuple[Supervisor, Board]]:
    board = Board(folder / "state.json", 1)
    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(group, board, folder)
        for program in programs:
            supervisor.start(program)
        yield supervisor, board
        await supervisor.stop(*board.programs)


async def test_a_killed_program_is_back_within_five_seconds(tmp_path: Path) -> None:
    port = ports.choose({}, ["web"])["web"]
    async with running(tmp_path, Program("web", python(SERVER, str(port)), port=port)) as (supervisor, board):
        await asyncio.wait_for(supervisor.ready("web"), 10)
        entry = board.programs["web"]
        for restarts in range(1, 4):
            killed = entry.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            await eventually(partial(_is_back, entry, killed), timedelta(seconds=5))
            assert entry.restarts == restarts
        assert boards.read(tmp_path / "state.json")["programs"]["web"]["restarts"] == 3


def _is_back(entry: Entry, killed: int) -> bool:
    return entry.ready and entry.pid != killed


async def test_a_program_that_cannot_start_is_tried_less_and_less_often(tmp_path: Path) -> None:
    port = ports.choose({}, ["broken"])["broken"]
    broken = Program("broken", python("print('no use')"), port=port)
    absent = Program("absent", ("/no/such/program",))
    async with running(tmp_path, broken, absent) as (_, board):
        await eventually(lambda: board.programs["broken"].restarts >= 3)
        assert not board.programs["broken"].ready
        await eventually(lambda: board.programs["absent"].restarts >= 3)
    assert "no use" in logs.tail(tmp_path / "broken.log")


async def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    deaf = Program("deaf", python(DEAF), grace=timedelta(milliseconds=100))
    async with running(tmp_path, deaf) as (_, board):
        await eventually(lambda: "deaf" in logs.tail(tmp_path / "deaf.log"))
        pid = board.programs["deaf"].pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_command_that_fails_says_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"(?s)migrate failed.*broken table"):
        await run_once(
            python("raise SystemExit('broken table')"), {}, tmp_path / "migrate.log", within=timedelta(seconds=30)
        )


async def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="migrate failed"):
        await run_once(python(DEAF), {}, tmp_path / "migrate.log", within=timedelta(milliseconds=300))


async def test_nothing_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from trainyard_local.board import Board, Entry
from trainyard_local.programs import Program
from trainyard_local.supervisor import Supervisor
async def main():
    folder = Path({str(tmp_path)!r})
    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(group, Board(folder / "state.json", 1), folder)
        for name in ("one", "two"):
            supervisor.start(Program(name, (sys.executable, "-c", {DEAF!r})))
asyncio.run(main())
"""
    with subprocess.Popen(python(code)) as supervisor:  # noqa: ASYNC220 - it goes on while we look
        pids = await eventually(
            lambda: (
                [pid for entry in _programs(tmp_path).values() if (pid := entry["pid"])][1:]
                and [entry["pid"] for entry in _programs(tmp_path).values()]
            )
        )
        supervisor.kill()
    await eventually(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), timedelta(seconds=2))


def _programs(folder: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = boards.read(folder / "state.json").get("programs", {})
    return found


async def test_a_large_log_makes_room_while_it_is_written_to(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    with log.open("a") as stream:
        stream.write("old " * 1000)
        stream.flush()
        task = asyncio.create_task(logs.bound(tmp_path, largest=100, every=0.01))
        await eventually(lambda: log.stat().st_size == 0)
        stream.write("new")
        stream.flush()
        task.cancel()
    assert log.read_text() == "new"
    assert (tmp_path / "web.log.1").read_text().startswith("old")
    assert logs.tail(tmp_path / "none.log") == ""


def test_ports_stay_the_same_while_they_are_free() -> None:
    first = ports.choose({}, ["a", "b"])
    assert ports.choose(first, ["a", "b"]) == first
    assert len(set(ports.choose({"a": 15001, "b": 15001}, ["a", "b"]).values())) == 2


def test_memory_counts_what_a_process_started() -> None:
    with subprocess.Popen(
        python("import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"), stdin=-1
    ) as it:
        alone = memory.used_alone(it.pid)
        assert alone is None or alone > 0
        assert memory.used([it.pid, 2**22 + 1])[2**22 + 1] is None
        it.communicate(b"\n")


def test_a_full_disk_does_not_end_the_supervisor(tmp_path: Path) -> None:
    Board(tmp_path / "gone" / "state.json", 1).write()


def test_the_state_is_whole_at_every_moment(tmp_path: Path) -> None:
    board = Board(tmp_path / "state.json", 8080)
    board.say("here")
    assert json.loads((tmp_path / "state.json").read_text())["message"] == "here"
    assert boards.read(tmp_path / "other.json") == {}


async def test_the_door_is_not_waited_for_while_those_behind_it_hold_its_answers_back(tmp_path: Path) -> None:
    here = str(tmp_path)
    door, behind = Program("gateway", python(DOOR, here)), Program("ingest", python(BEHIND, here))
    async with running(tmp_path, door, behind, Program("postgres", python(BEHIND, here))) as (supervisor, board):
        for name in ("door.begun", "behind.begun"):
            await eventually((tmp_path / name).exists)
        await asyncio.wait_for(suite.stop(supervisor, board), door.grace.total_seconds() / 2)
    assert (tmp_path / "door.ended").exists()
