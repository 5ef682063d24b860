"""Children and their limits, with real processes."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kit import children
from kit.children import Finished
from kit.testing import eventually

MEMORY = 100 << 20


async def run(tmp_path: Path, program: str, **limits: Any) -> Finished:
    given: dict[str, Any] = {"memory": MEMORY, "deadline": timedelta(seconds=20), "output": 1 << 20, "env": {}}
    return await children.run([sys.executable, "-c", program], cwd=tmp_path, **{**given, **limits})


async def test_a_child_reads_writes_and_ends(tmp_path: Path) -> None:
    program = "import sys; data = sys.stdin.read(); print(data * 2); print('aside', file=sys.stderr); sys.exit(3)"
    finished = await run(tmp_path, program, stdin=b"ab")
    assert (finished.code, finished.out, finished.err, finished.reason) == (3, b"abab\n", b"aside\n", None)


async def test_what_a_child_held_in_memory_is_told(tmp_path: Path) -> None:
    finished = await run(
        tmp_path, "import sys; held = b'x' * (40 << 20); sys.stdin.read(); import time; time.sleep(.2)"
    )
    assert 40 << 20 < finished.peak < MEMORY


async def test_a_child_gets_the_environment_it_is_given_and_nothing_else(tmp_path: Path) -> None:
    finished = await run(tmp_path, "import os; print(sorted(os.environ), os.getcwd())", env={"A": "1"})
    names, _, folder = finished.out.decode().partition("] ")
    assert "'A'" in names
    assert "PATH" not in names
    assert folder.strip() == str(tmp_path)


async def test_a_child_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    finished = await run(tmp_path, "held = []\nwhile True: held.append(b'x' * (1 << 20))")
    assert (finished.code, finished.reason) == (-signal.SIGKILL, "memory")
    assert finished.peak > MEMORY


async def test_memory_of_a_childs_children_counts_too(tmp_path: Path) -> None:
    inner = "held = b'x' * (150 << 20); import time; time.sleep(20)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    finished = await run(tmp_path, program)
    assert finished.reason == "memory"


async def test_an_allocation_beyond_all_measure_fails_at_once(tmp_path: Path) -> None:
    finished = await run(tmp_path, "bytearray(64 << 30)")
    assert finished.code == 1
    assert b"MemoryError" in finished.err


async def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    finished = await run(tmp_path, "while True: pass", deadline=timedelta(milliseconds=200))
    assert (finished.code, finished.reason) == (-signal.SIGKILL, "deadline")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_child_that_says_too_much_is_ended(tmp_path: Path, stream: str) -> None:
    finished = await run(tmp_path, f"import sys\nwhile True: sys.{stream}.write('x' * 1000)", output=10_000)
    assert finished.reason == "output"
    assert len(finished.out) + len(finished.err) == 10_000


async def test_a_child_need_not_read_what_it_is_given(tmp_path: Path) -> None:
    finished = await run(tmp_path, "print('done')", stdin=b"x" * (1 << 20))
    assert (finished.code, finished.out) == (0, b"done\n")


async def test_what_a_child_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], stdout=subprocess.DEVNULL,"
        " stderr=subprocess.DEVNULL)\n"
        "print(p.pid)"
    )
    finished = await run(tmp_path, program)
    await eventually(lambda: is_gone(int(finished.out)))


async def test_a_child_ends_when_its_caller_gives_up(tmp_path: Path) -> None:
    program = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    task = asyncio.create_task(run(tmp_path, program))
    pid = int(await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_gone(pid)


async def test_a_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    child = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    parent = (
        "import asyncio, sys, pathlib, datetime\n"
        "from kit import children\n"
        f"asyncio.run(children.run([sys.executable, '-c', {child!r}], memory=1 << 30, output=1,"
        " deadline=datetime.timedelta(minutes=1), env={}, cwd=pathlib.Path('.')))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, cwd=tmp_path)
    pid = int(await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    process.kill()
    await process.wait()
    await eventually(lambda: is_gone(pid))


async def test_a_program_that_is_not_there_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await children.run(
            ["no-such-program"], memory=MEMORY, deadline=timedelta(seconds=1), output=1, env={}, cwd=tmp_path
        )


def test_the_memory_of_a_process_that_is_gone_is_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert children.resident(process.pid) == 0


def test_memory_can_be_told_by_a_kernel_that_lists_no_children(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text("9 3 1 1 0 1 0\n")
    assert children._by_proc(7, tmp_path) == 3 * resource.getpagesize()


def test_memory_can_be_told_without_proc() -> None:
    assert children._by_ps(os.getpgid(0)) > 1 << 20


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")
    except FileNotFoundError:
        return True
