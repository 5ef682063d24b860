"""Run by `make containers-test`, which brings an engine and the images; anybody else's pytest passes by."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `stacks` and `load`

from stacks import Stack, say

collect_ignore_glob = [] if os.environ.get("TRAINYARD_CONTAINERS") == "1" else ["test_*.py"]


@pytest.fixture(scope="session")
def unstarted(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    return Stack.made(tmp_path_factory.mktemp("stack"), port)


@pytest.fixture(scope="session")
def stack(unstarted: Stack) -> Iterator[Stack]:
    """All of it, ready; it leaves nothing."""
    began = time.monotonic()
    say("docker compose up --wait")
    done = unstarted.compose("up", "--detach", "--wait", "--wait-timeout", "240")
    try:
        if done.returncode:
            pytest.fail(f"{done.stderr[-3000:]}\n{unstarted.logs()[-12000:]}", pytrace=False)
        say(f"{len(unstarted.containers())} containers are ready after {time.monotonic() - began:.0f} s")
        yield unstarted
    finally:
        say("docker compose down")
        unstarted.compose("down", "--volumes", "--timeout", "20")
        assert unstarted.containers() == []
