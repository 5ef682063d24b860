"""The servers of others beside which ours is measured: how each is installed, started and asked.

Each has an environment of its own in `.cache/peers`, made here by uv from the pins in benchmarks/peers. One that cannot
be had is said, and left out.
"""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
from numpy.typing import NDArray

from benchmarks.gateway import free_port, running
from benchmarks.serving_ours import await_ready, environment

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "peers"
PINS = Path(__file__).parent / "peers"
PLAIN, FIRST, SECOND = "plain", "v1", "v2"
INSTALLING, FITTING, BEGINNING = 1200, 300, 600
"""Seconds at most."""


class NotInstalled(Exception):
    """A peer that cannot be had here, and why."""


@dataclass(frozen=True)
class Peer:
    """`command` makes its command line from its environment's `bin`, a port and a folder."""

    name: str
    venv: str
    command: Callable[[Path, int, Path], Sequence[object]]
    path: str = "/predict/{model}"
    form: str = PLAIN
    ready: str = "/docs"
    """What answers 200 once all models are loaded."""


def _fastapi(bin_: Path, port: int, home: Path) -> Sequence[object]:
    options = ["--port", port, "--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools"]
    return [bin_ / "uvicorn", "--factory", "benchmarks.peers.on_fastapi:app", *options]


def _kserve(bin_: Path, port: int, home: Path) -> Sequence[object]:
    options = ["--workers", 1, "--enable_grpc", "false", "--event-loop", "uvloop", "--enable_latency_logging", "false"]
    return [bin_ / "python", "-m", "benchmarks.peers.on_kserve", "--http_port", port, *options]


def _module(name: str) -> Callable[[Path, int, Path], Sequence[object]]:
    return lambda bin_, port, home: [bin_ / "python", "-m", f"benchmarks.peers.on_{name}", port, home]


def _bentoml(bin_: Path, port: int, home: Path) -> Sequence[object]:
    return [bin_ / "bentoml", "serve", "benchmarks.peers.on_bentoml:Served", "--host", "127.0.0.1", "-p", port]


PEERS = (
    Peer("FastAPI, hand-tuned", "fastapi", _fastapi),
    Peer("KServe", "kserve", _kserve, "/v1/models/{model}:predict", FIRST, "/v2/health/ready"),
    Peer("MLServer, batching", "mlserver", _module("mlserver"), "/v2/models/{model}/infer", SECOND, "/v2/health/ready"),
    Peer("BentoML", "bentoml", _bentoml, ready="/readyz"),
    Peer("LitServe", "litserve", _module("litserve"), ready="/health"),
    Peer("Ray Serve, 2 replicas, batching", "ray", _module("ray"), ready="/-/healthz"),
)


def install(peer: Peer) -> Path:
    """The `bin` of its environment, made if it is not there.

    Raises:
        NotInstalled: it cannot be made.
    """
    folder, pins = CACHE / peer.venv, PINS / f"{peer.venv}.txt"
    stamp = folder / "pins.txt"
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        uv = [Path(sys.executable).with_name("uv"), "--quiet", "--cache-dir", CACHE / "uv"]
        _do([*uv, "venv", "--clear", "--python", sys.executable, folder], INSTALLING)
        _do([*uv, "pip", "install", "--python", folder / "bin/python", "-r", pins], INSTALLING)
        stamp.write_text(pins.read_text())
    return folder / "bin"


def _do(command: Sequence[object], seconds: float, env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run([str(it) for it in command], env=env, capture_output=True, text=True, timeout=seconds)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NotInstalled(str(exc)) from None
    if done.returncode:
        raise NotInstalled((done.stderr or done.stdout).strip()[-300:])


@contextlib.contextmanager
def started(peer: Peer, home: Path) -> Iterator[tuple[psutil.Process, int, float]]:
    """The server, its port, and the seconds from its start to its readiness.

    Raises:
        NotInstalled: it cannot be had here, or does not start.
    """
    bin_ = install(peer)
    folder, log, port = home / f"{peer.venv}-models", home / f"{peer.venv}.log", free_port()
    folder.mkdir()
    more = {"PYTHONPATH": str(ROOT), "BENCH_MODELS": str(folder), "PATH": f"{bin_}:/usr/local/bin:/usr/bin:/bin"}
    more |= {"DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "bento")}
    more |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0", "RAY_DISABLE_MEMORY_MONITOR": "1"}
    more |= {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "120"}  # a busy machine takes its time
    env = environment(more)
    _do([bin_ / "python", "-m", "benchmarks.peers.fitted", home], FITTING, env)
    with _whole_tree_ended() as tree, running(peer.command(bin_, port, folder), log, env) as process:
        try:
            seconds = await_ready(port, log, peer.ready, BEGINNING)
        except SystemExit as exc:
            raise NotInstalled(str(exc)) from None
        finally:
            tree += process.children(recursive=True)
        yield process, port, seconds


@contextlib.contextmanager
def _whole_tree_ended() -> Iterator[list[psutil.Process]]:
    """Some servers end without the processes that they have started: those that are put here end afterwards."""
    tree: list[psutil.Process] = []
    try:
        yield tree
    finally:
        for it in tree:
            with contextlib.suppress(psutil.Error):
                it.kill()


def body_of(peer: Peer, rows: NDArray[Any]) -> bytes:
    """A request of these rows."""
    values = rows.tolist()
    if peer.form == SECOND:
        return orjson.dumps({"inputs": [{"name": "x", "shape": rows.shape, "datatype": "FP32", "data": values}]})
    return orjson.dumps({"instances" if peer.form == FIRST else "inputs": values})


def answers_in(content: bytes) -> Any:
    """What a peer has answered, as nested lists."""
    document = orjson.loads(content)
    if isinstance(document, dict):
        document = document.get("outputs", document.get("predictions"))
    if isinstance(document, list) and document and isinstance(document[0], dict):
        document = document[0]["data"]
    return document
