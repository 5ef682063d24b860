"""Serving under more load than it can do: how much it still does, how soon it says no, and who else feels it.

    make chaos AREA=serving            (ARGS="--seconds 120": as long as the guarantees say)

The real process, pinned to the first core; arrivals at scheduled moments from the last one. The model is a network of
the platform's own trainer, so wide that one row takes about five milliseconds. Latencies count from the moment that was
set.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import math
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson
import psutil

from benchmarks import serving_models
from benchmarks.gateway import free_port, running
from benchmarks.open_loop import GOOD, Load, Result, fire, request
from benchmarks.serving_ours import Platform, await_ready, platform

WIDE = (2600, 2600, 2600, 2600)
COLUMNS = 8
STAGES = (0.8, 1.0, 2.0, 5.0, 10.0)
FEW_STAGES = (0.8, 1.0, 2.0)
"""Of what answers thousands a second: beyond that it is the generator that cannot."""
REFUSED = frozenset({503})
CALM = 0.5
CLIENTS = 16
"""That ask again as soon as they have an answer: what the server can do."""
HUNG = 15
TIMES = "\N{MULTIPLICATION SIGN}"


def network(folder: Path) -> serving_models.Made:
    """A classifier whose rows cost milliseconds, and its twin."""
    random = np.random.default_rng(0)
    x = random.normal(size=(400, COLUMNS)).round(3)
    y = (x[:, 0] > 0).astype(np.int64)
    parameters = {"hidden_layer_sizes": list(WIDE), "max_iter": 1, "batch_size": 400, "solver": "sgd"}
    serving_models.ESTIMATORS["wide"] = ("sklearn.neural_network.MLPClassifier", parameters)
    made = serving_models.train("wide", serving_models.Data(x, y, x[:1]), folder)
    if "onnx" not in made.files:
        raise SystemExit(f"no twin: {made.verdict}")
    return made


@dataclasses.dataclass(frozen=True)
class Server:
    """The pinned process."""

    platform: Platform
    port: int
    process: psutil.Process

    def load(self, deployment: str, made: serving_models.Made, rate: float, seconds: float, **more: float) -> Load:
        body = orjson.dumps({"rows": list(made.example)[:1]})

        def bytes_of() -> bytes:
            token = self.platform.token("gateway", "serving")
            headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            return request("POST", f"/v1/deployments/{deployment}/predict", headers, body)

        return Load("127.0.0.1", self.port, bytes_of, rate=rate, seconds=seconds, connections=1024, **more)  # type: ignore[arg-type]

    def capacity(self, deployment: str, made: serving_models.Made, seconds: float) -> float:
        """Good answers a second to a few clients that ask again and again."""
        return asyncio.run(answered(self.load(deployment, made, 1, seconds), CLIENTS)) / seconds


async def answered(load: Load, clients: int) -> int:
    """Good answers within the seconds of a load, to so many clients that ask again and again."""
    end = time.monotonic() + load.seconds

    async def ask() -> int:
        reader, writer = await asyncio.open_connection(load.host, load.port)
        good, content = 0, load.made()
        while time.monotonic() < end:
            writer.write(content)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
            good += head.startswith(b"http/1.1 200")
        writer.close()
        return good

    return sum(await asyncio.gather(*(ask() for _ in range(clients))))


@contextlib.contextmanager
def pinned(home: Path) -> Iterator[Server]:
    """A second process with the settings of the first, alone on its core."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    with platform(home) as it:
        port = free_port()
        env = {**it.serving.environ(), "SERVING_PORT": str(port), "SERVING_WORK_DIR": str(home / "pinned")}
        env.pop("SERVING_WAITING_REQUESTS", None)  # as it is by default
        command = ["taskset", "-c", str(cores[0]), sys.executable, "-m", "serving", "api"]
        with running(command, home / "pinned.log", env) as process:
            await_ready(port, home / "pinned.log")
            yield Server(it, port, process)


@contextlib.contextmanager
def watched(process: psutil.Process) -> Iterator[list[tuple[float, int]]]:
    """(seconds, resident bytes) of the process, twice a second."""
    seen: list[tuple[float, int]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            seen.append((time.monotonic(), process.memory_info().rss))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def slope(seen: Sequence[tuple[float, int]]) -> float:
    """MiB a minute, over the second half: the first fills buffers."""
    late = seen[len(seen) // 2 :]
    if len(late) < 3:
        return math.nan
    return statistics.linear_regression(*zip(*late, strict=True)).slope * 60 / (1 << 20)


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def milliseconds(seconds: float) -> str:
    return "—" if math.isnan(seconds) else f"{1000 * seconds:.1f}"


def quantiles(result: Result, statuses: frozenset[int] = GOOD) -> str:
    return ", ".join(milliseconds(result.seconds(it, statuses)) for it in (0.5, 0.99))


def overload(server: Server, name: str, made: serving_models.Made, seconds: float, stages: Sequence[float]) -> None:
    peak = server.capacity(name, made, 5)
    say(f"{name}: {peak:.0f} requests a second at most\n")
    say("| load | offered/s | goodput/s | of peak | accepted p50, p99 ms | refused | p50, p99 ms | other | MiB/min |")
    say("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    calm = math.nan
    for stage in (*stages, CALM):
        with watched(server.process) as seen:
            result = asyncio.run(fire(server.load(name, made, stage * peak, seconds)))
        calm = result.seconds(0.99) if stage == stages[0] else calm
        refused = result.of(REFUSED)
        other = len(result.shots) - len(result.of()) - len(refused)
        cells = [f"{stage:g}{TIMES}", f"{stage * peak:.0f}", f"{result.goodput:.0f}", f"{result.goodput / peak:.0%}"]
        cells += [quantiles(result), str(len(refused)), quantiles(result, REFUSED), str(other), f"{slope(seen):.1f}"]
        say(f"| {' | '.join(cells)} |")
    say(f"\nAt {CALM:g}{TIMES}, p99 is that of {stages[0]:g}{TIMES} again after {recovery(result, calm):.1f} s.\n")


def recovery(result: Result, calm: float) -> float:
    """Seconds after which the answers are as soon as they were before."""
    for tenth in range(int(10 * result.load.seconds) - 5):
        if result.seconds(0.99, since=tenth / 10) <= calm:
            return tenth / 10
    return math.inf


def fairness(server: Server, made: serving_models.Made, seconds: float) -> None:
    peak = server.capacity("quiet", made, 5)
    quota = peak / 2
    quiet = server.load("quiet", made, 0.8 * quota, seconds)

    async def both() -> tuple[Result, Result]:
        flood = fire(server.load("flooded", made, 10 * quota, seconds))
        return await asyncio.gather(fire(quiet), flood)

    alone = asyncio.run(fire(quiet))
    beside, flooded = asyncio.run(both())
    say("| | answered | p50 ms | p99 ms |\n|---|--:|--:|--:|")
    for title, it in (("alone", alone), ("beside ten times the other's share", beside), ("the flooded one", flooded)):
        share = len(it.of()) / len(it.shots)
        say(f"| {title} | {share:.2%} | {milliseconds(it.seconds(0.5))} | {milliseconds(it.seconds(0.99))} |")
    say(f"\np99 beside a flood: {beside.seconds(0.99) / alone.seconds(0.99):.2f} {TIMES} alone.\n")


def isolation(server: Server, made: serving_models.Made, bad: serving_models.Made, seconds: float) -> None:
    """A model in a child hangs, and its child is killed: what happens to it, and to a model beside it."""
    peak = server.capacity("quiet", made, 5)
    good = server.load("quiet", made, CALM * peak, seconds)

    async def beside(harm: Callable[[psutil.Process], None]) -> tuple[Result, Result]:
        async def hurt() -> None:
            await asyncio.sleep(seconds / 4)
            for child in server.process.children():
                harm(child)

        one, other, _ = await asyncio.gather(fire(good), fire(server.load("bad", bad, 20, seconds)), hurt())
        return one, other

    alone = asyncio.run(fire(good))
    say(f"| the other model | answered | p99 ms | {TIMES} alone | the bad one answered |\n|---|--:|--:|--:|--:|")
    say(f"| — | {len(alone.of()) / len(alone.shots):.2%} | {milliseconds(alone.seconds(0.99))} | 1 | — |")
    kinds: list[tuple[str, Callable[[psutil.Process], None]]] = [
        ("well", lambda child: None),
        ("hangs", lambda child: child.send_signal(signal.SIGSTOP)),
        ("is killed", lambda child: child.kill()),
    ]
    for title, harm in kinds:
        one, other = asyncio.run(beside(harm))
        share = f"{len(one.of()) / len(one.shots):.2%} | {milliseconds(one.seconds(0.99))}"
        if title == "hangs":
            time.sleep(HUNG)  # its process is ended by then, and has begun again
        times = one.seconds(0.99) / alone.seconds(0.99)
        say(f"| {title} | {share} | {times:.2f} | {len(other.of()) / len(other.shots):.0%} |")
    say()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20, help="of each stage")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="overload-") as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        wide = network(home / "wide")
        small = serving_models.train("lr", serving_models.data()["lr"], home / "small")
        server = stack.enter_context(pinned(home))
        for made, *deployments in (
            (wide, "alone", "wide", "quiet", "flooded"),
            (small, "small"),
            (small.without_twin(), "bad"),
        ):
            reference = server.platform.register(f"model-{deployments[0]}", made)
            for deployment in deployments:
                alone = {} if deployment in ("wide", "small", "bad") else {"concurrency": 1}
                if why := server.platform.deploy(deployment, reference, **alone):
                    raise SystemExit(f"{deployment}: {why}")
        overload(server, "alone", wide, seconds, STAGES)
        overload(server, "wide", wide, seconds, FEW_STAGES)
        fairness(server, wide, seconds)
        isolation(server, wide, small, seconds)
        overload(server, "small", small, seconds / 2, FEW_STAGES)


if __name__ == "__main__":
    main()
