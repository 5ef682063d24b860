"""What a program tells reaches whoever listens, whole and in order; nothing waits for a listener."""

import json
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainyard.runtime import reports
from trainyard.runtime.reports import Reports


class Runner:
    """Listens on a socket, as the runner does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.connection: socket.socket | None = None

    def lines(self, size: int = 1 << 20) -> list[dict[str, Any]]:
        """What is there now; an end that is cut off is left out."""
        content = b""
        self.accept().settimeout(0.05)
        while len(content) < size:
            try:
                piece = self.accept().recv(size)
            except TimeoutError:
                break
            if not piece:
                break
            content += piece
        return [json.loads(line) for line in content.split(b"\n")[:-1]]

    def accept(self) -> socket.socket:
        if self.connection is None:
            self.listener.settimeout(5)
            self.connection = self.listener.accept()[0]
        return self.connection

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.listener.close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def address() -> Iterator[Path]:
    """A short one: the kernel takes 108 characters."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "s"


def test_lines_come_whole_and_in_order(address: Path) -> None:
    runner = Runner(address)
    told = Reports(address, None)
    for step in range(100):
        told.tell("metrics", {"step": step, "values": {"loss": 0.5}})
    told.close()
    lines = runner.lines()
    assert [line["step"] for line in lines] == list(range(100))
    assert [line["number"] for line in lines] == list(range(1, 101))
    assert lines[0].keys() == {"type", "number", "at", "step", "values"}
    runner.close()


def test_nobody_is_waited_for_and_the_oldest_is_dropped(address: Path) -> None:
    runner = Runner(address)
    told = Reports(address, None, again=0)
    for step in range(reports.MOST * 3):
        told.tell("progress", {"done": step})
    lines = runner.lines()
    while not told.send():
        lines += runner.lines()
    told.close()
    lines += runner.lines()
    steps = [line["done"] for line in lines]
    assert steps == sorted(set(steps))  # none is cut in two, none comes twice
    assert steps[-1] == reports.MOST * 3 - 1
    assert reports.MOST <= len(steps) < reports.MOST * 3
    runner.close()


def test_a_runner_that_comes_back_gets_what_waited(address: Path) -> None:
    told = Reports(address, None, again=0)
    told.tell("progress", {"done": 1})
    first = Runner(address)
    told.tell("progress", {"done": 2})
    assert [line["done"] for line in first.lines()] == [1, 2]
    first.close()
    for done in (3, 4, 5):
        told.tell("progress", {"done": done})
    second = Runner(address)
    told.close()
    assert [line["done"] for line in second.lines()] == [3, 4, 5]
    second.close()


def test_after_a_refusal_it_is_not_asked_at_once_again(address: Path) -> None:
    told = Reports(address, None, again=3600)
    told.tell("progress", {"done": 1})
    runner = Runner(address)
    assert not told.send()
    runner.close()


def test_the_end_waits_some_seconds_and_no_more(address: Path) -> None:
    told = Reports(address, None, farewell=0.1)
    told.tell("progress", {"done": 1})
    began = time.monotonic()
    told.close()
    assert 0.1 <= time.monotonic() - began < 2


def test_a_file_has_them_too(tmp_path: Path) -> None:
    told = Reports(None, tmp_path / "metrics.jsonl")
    told.tell("metrics", {"step": 1})
    told.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1]


def test_a_full_disk_ends_no_training() -> None:
    told = Reports(None, Path("/dev/full"))
    told.tell("metrics", {"step": 1})
    told.close()


def test_a_line_has_bounds() -> None:
    with pytest.raises(ValueError, match="64 KiB"):
        Reports(None, None).tell("metrics", {"values": {"x" * (64 << 10): 1.0}})
