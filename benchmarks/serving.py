"""Serving beside its peers, in one run: requests per second of CPU of the server, latency, memory, time to ready.

    make bench AREA=serving                  (ARGS="--rounds 6 --seconds 4", ARGS="--only rf-1 --peers kserve,ray")

Ours is the real process behind a real registry: tokens, validation, limits, metrics and a log line for each request.
All answer the same rows; what a server answers is compared with the library's own answer before it is timed. Rounds go
forth and back through the servers; a ratio is the median of the ratios of each round, to the best peer of that round.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
from numpy.typing import NDArray

from benchmarks import open_loop, serving_models, serving_ours, serving_peers, serving_table
from benchmarks.serving_models import WORKLOADS, Made, Workload

HERE = Path(__file__).parent
JSON = {"Content-Type": "application/json"}
SHARE = 0.8
"""Of its capacity, at which latency is looked at."""


@dataclass
class Server:
    """One of those that are measured, and what came of it by workload."""

    name: str
    process: psutil.Process
    port: int
    ready_seconds: float
    paths: Mapping[str, str]
    """By workload."""
    bodies: Mapping[str, tuple[bytes, Mapping[str, str]]]
    """By workload: a request's body and headers."""
    ours: serving_ours.Platform | None = None
    rates: dict[str, list[float]] = field(default_factory=dict)
    """By workload and round: requests per second of CPU."""
    per_second: dict[str, list[float]] = field(default_factory=dict)
    failures: int = 0
    memory: int = 0
    latency: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """By workload: arrivals a second, p50 and p99 in milliseconds."""
    wrong: dict[str, str] = field(default_factory=dict)

    def tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds that the whole tree has used."""
        return sum(sum(it.cpu_times()[:2]) for it in self.tree())

    def pss(self) -> int:
        """Bytes of memory of the tree, what is shared in proportion."""
        return sum(int(it.memory_full_info().pss) for it in self.tree())

    def headers(self, workload: str) -> dict[str, str]:
        given = dict(self.bodies[workload][1])
        if self.ours is not None:
            given["Authorization"] = f"Bearer {self.ours.token('gateway', 'serving')}"
        return given

    def ask(self, workload: str) -> tuple[bytes, Mapping[str, str]]:
        url = f"http://127.0.0.1:{self.port}{self.paths[workload]}"
        request = urllib.request.Request(url, self.bodies[workload][0], self.headers(workload))
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.read(), answer.headers

    def round(self, workload: Workload, home: Path, seconds: float) -> None:
        name, before = workload.name, self.cpu()
        said = self._loaded(workload, home, seconds)
        used = self.cpu() - before
        self.failures += int(said["failures"])
        self.rates.setdefault(name, []).append(said["requests"] / used if used else 0.0)
        self.per_second.setdefault(name, []).append(said["requests"] / said["seconds"])

    def _loaded(self, workload: Workload, home: Path, seconds: float) -> dict[str, float]:
        body, headers = home / "load.body", home / "load.headers"
        body.write_bytes(self.bodies[workload.name][0])
        headers.write_text("".join(f"{name}: {value}\n" for name, value in self.headers(workload.name).items()))
        url = f"http://127.0.0.1:{self.port}{self.paths[workload.name]}"
        options = ["-t1", f"-c{workload.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
        done = subprocess.run(  # noqa: S603
            ["wrk", *options, "-s", str(HERE / "post.lua"), url],  # noqa: S607 - from the path, as the shell has it
            env={**os.environ, "BODY": str(body), "HEADERS": str(headers)},
            capture_output=True,
            text=True,
            check=True,
        )
        answered: dict[str, float] = json.loads(done.stdout.rpartition("JSON")[2])
        return answered


def our_bodies(asked: Mapping[str, NDArray[Any]]) -> dict[str, tuple[bytes, Mapping[str, str]]]:
    """By workload: rows as arrays, or the second protocol's binary tensors."""
    made: dict[str, tuple[bytes, Mapping[str, str]]] = {}
    for it in WORKLOADS:
        rows = asked[it.model][: it.rows]
        if it.form == "binary":
            made[it.name] = _binary(it, rows)
        elif it.model == "mlp":
            made[it.name] = orjson.dumps({"rows": rows.tolist()}), JSON
        else:
            made[it.name] = orjson.dumps(serving_models.rows_body(rows)), JSON
    return made


def _binary(workload: Workload, rows: NDArray[Any]) -> tuple[bytes, Mapping[str, str]]:
    whole = rows.astype("<f4")
    parts = (
        {"x": whole} if workload.model == "mlp" else {f"x{at}": whole[:, at : at + 1] for at in range(rows.shape[1])}
    )
    inputs = [
        {"name": name, "datatype": "FP32", "shape": part.shape, "parameters": {"binary_data_size": part.nbytes}}
        for name, part in parts.items()
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    said = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + b"".join(part.tobytes() for part in parts.values()), said


def our_answers(workload: Workload, content: bytes, headers: Mapping[str, str]) -> Any:
    """What ours has answered, as numbers."""
    if workload.form == "binary":
        length = int(headers["inference-header-content-length"])
        first = orjson.loads(content[:length])["outputs"][0]
        size, kind = first["parameters"]["binary_data_size"], {"INT64": "<i8", "FP32": "<f4"}[first["datatype"]]
        return np.frombuffer(content[length : length + size], kind)
    predictions = orjson.loads(content)["predictions"]
    return [it["label"] if "label" in it else it["y"] for it in predictions]


def check(server: Server, expected: Mapping[str, NDArray[Any]]) -> None:
    """Forget the workloads that a server does not answer as the library does, and say so."""
    for it in WORKLOADS:
        if it.name not in server.paths or it.name in server.wrong:
            continue
        try:
            content, headers = server.ask(it.name)
            found = serving_peers.answers_in(content) if server.ours is None else our_answers(it, content, headers)
            right = np.ravel(expected[it.model][: it.rows]).astype(float)
            if not np.allclose(np.ravel(np.array(found, float)), right, atol=1e-3):
                server.wrong[it.name] = "answers otherwise than the library"
        except (OSError, ValueError, KeyError, TypeError) as exc:
            said = exc.read()[:300] if hasattr(exc, "read") else b""
            server.wrong[it.name] = f"{exc!r} {said!r}"
    for name, why in server.wrong.items():
        _say(f"✘ {server.name}, {name}: {why}")


def look_at_latency(server: Server, workload: Workload, seconds: float) -> None:
    """At a share of the capacity that the rounds have shown, at moments set beforehand."""
    rate = SHARE * float(np.median(server.per_second[workload.name]))

    def made() -> bytes:
        return open_loop.request("POST", server.paths[workload.name], server.headers(workload.name), body)

    body = server.bodies[workload.name][0]
    load = open_loop.Load("127.0.0.1", server.port, made, rate=rate, seconds=seconds)
    result = asyncio.run(open_loop.fire(load))
    server.latency[workload.name] = rate, 1e3 * result.seconds(0.5), 1e3 * result.seconds(0.99)


@contextlib.contextmanager
def ours(home: Path, asked: Mapping[str, NDArray[Any]], models: Mapping[str, Made]) -> Iterator[Server]:
    bodies = our_bodies(asked)
    with serving_ours.platform(home) as platform:
        wrong: dict[str, str] = {}
        for name, made in {**models, "rf-original": models["rf"].without_twin()}.items():
            if why := platform.deploy(name, platform.register(name, made)):
                wrong |= {it.name: why for it in WORKLOADS if it.deployment == name}
        paths = {
            it.name: f"/v2/models/{it.deployment}/infer"
            if it.form == "binary"
            else f"/v1/deployments/{it.deployment}/predict"
            for it in WORKLOADS
        }
        seconds = platform.ready_seconds
        it = Server("Trainyard", platform.serving, platform.serving_port, seconds, paths, bodies, platform)
        it.wrong |= wrong
        yield it


@contextlib.contextmanager
def theirs(peer: serving_peers.Peer, home: Path, asked: Mapping[str, NDArray[Any]]) -> Iterator[Server]:
    bodies = {it.name: (serving_peers.body_of(peer, asked[it.model][: it.rows]), JSON) for it in WORKLOADS}
    paths = {it.name: peer.path.format(model=it.model) for it in WORKLOADS if it.form == "json" and not it.original}
    with serving_peers.started(peer, home) as (process, port, seconds):
        yield Server(peer.name, process, port, seconds, paths, bodies)


@contextlib.contextmanager
def maybe(peer: serving_peers.Peer, home: Path, asked: Mapping[str, NDArray[Any]]) -> Iterator[Server | None]:
    """The peer, or nothing, which is said, where it cannot be had."""
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(theirs(peer, home, asked))
        except serving_peers.NotInstalled as exc:
            _say(f"✘ {peer.name} is left out: {exc}")
            yield None
            return
        yield found


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def measure(servers: Sequence[Server], workloads: Sequence[Workload], home: Path, asked: argparse.Namespace) -> None:
    """Rounds forth and back; the first is short, and forgotten. Then latency, and memory at the end."""
    for turn in range(asked.rounds + 1):
        for it in workloads:
            for server in servers if turn % 2 else servers[::-1]:
                if it.name in server.paths and it.name not in server.wrong:
                    server.round(it, home, asked.seconds if turn else 1)
        _say(f"round {turn} of {asked.rounds}, load {os.getloadavg()[0]:.1f}")
    for server in servers:
        for made in (server.rates, server.per_second):
            for name in made:
                made[name] = made[name][1:]
        server.memory = server.pss()
        for it in workloads:
            if it.name in server.rates and it.name in asked.latency.split(","):
                look_at_latency(server, it, asked.seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", default=",".join(it.name for it in WORKLOADS), help="workloads")
    parser.add_argument("--peers", default=",".join(it.venv for it in serving_peers.PEERS), help="or nothing")
    parser.add_argument("--latency", default="rf-64,hgb-8", help="workloads whose latency is looked at")
    chosen = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        raise SystemExit("✘ wrk is needed: apt-get install wrk")
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-bench-")))
        given = serving_models.data()
        serving_models.write(home, given)
        asked = {**{name: it.asked for name, it in given.items()}, "mlp": serving_models.pictures()}
        peers = [peer for peer in serving_peers.PEERS if peer.venv in chosen.peers.split(",")]
        with ThreadPoolExecutor(len(peers) + 1) as pool:
            # They start while ours is trained; one that takes long to begin is not what is measured.
            begun = [pool.submit(stack.enter_context, maybe(peer, home, asked)) for peer in peers]
            _say("training and converting")
            models = {name: serving_models.train(name, it, home / name) for name, it in given.items()}
            models["mlp"] = serving_models.network()
            servers = [stack.enter_context(ours(home, asked, models))]
            servers += [it for it in (found.result() for found in begun) if it is not None]
        for server in servers:
            check(server, {name: made.answers for name, made in models.items()})
        workloads = [it for it in WORKLOADS if it.name in chosen.only.split(",")]
        measure(servers, workloads, home, chosen)
        sys.stdout.write(serving_table.of(servers, workloads))
    return 1 if servers[0].failures or servers[0].wrong else 0


if __name__ == "__main__":
    sys.exit(main())
