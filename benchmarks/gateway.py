"""The gateway beside what else could stand there: small requests through a proxy, by CPU time of the proxy.

    make bench AREA=gateway                  (or python -m benchmarks.gateway --rounds 8 --seconds 4)

Ours is the real process: its keys from PostgreSQL, an API key on every request, limits counted, tokens signed, one log
line a request. In the same run FastAPI with httpx and with aiohttp, and nginx where it is installed. All ask the same
upstream. Rounds go forth and back through the servers; a ratio is the median of the ratios of each round.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from gateway import actions
from gateway.actions import Wanted
from gateway.settings import SERVICES
from gateway.store.projects import ProjectStore
from kit import databases, db, keys, migrations
from kit.roles import Role
from kit.server import listen
from trainyard_local import postgres

HERE = Path(__file__).parent
PASSWORD = "for-measuring"  # noqa: S105 - of a server that lives as long as this run, in a folder of its own
BODY = json.dumps({"rows": [[5.1, 3.5, 1.4, 0.2, 1013, 7, "EWR"]]}).encode()
PREDICT = "/v1/deployments/flights/predict"
PLENTY = "1000000000"
NGINX = """
daemon off; worker_processes 1; pid {home}/nginx.pid; error_log {home}/nginx.log;
events {{ worker_connections 2048; }}
http {{ access_log off; keepalive_requests 100000000;
client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c; uwsgi_temp_path {home}/d;
scgi_temp_path {home}/e;
upstream u {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u; proxy_http_version 1.1;
proxy_set_header Connection ""; }} }} }}
"""


@dataclass
class Measured:
    """One server, and what came of each round: requests per CPU second of its processes, and milliseconds."""

    name: str
    process: psutil.Process
    port: int
    headers: Sequence[str] = ()
    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    failures: int = 0

    def cpu(self) -> float:
        """Seconds of CPU that the whole tree has used."""
        tree = [self.process, *self.process.children(recursive=True)]
        return sum(sum(it.cpu_times()[:2]) for it in tree)

    def round(self, body: Path, connections: int, seconds: float) -> None:
        before = self.cpu()
        said = _loaded(f"http://127.0.0.1:{self.port}{PREDICT}", body, connections, seconds, self.headers)
        used = self.cpu() - before
        self.rates.append(said["requests"] / used if used else 0.0)
        self.p50.append(said["p50"])
        self.p99.append(said["p99"])
        self.failures += int(said["failures"])


def _loaded(url: str, body: Path, connections: int, seconds: float, headers: Sequence[str]) -> dict[str, float]:
    command = [
        sys.executable,
        str(HERE / "loopback.py"),
        "load",
        url,
        str(body),
        str(connections),
        str(seconds),
        *headers,
    ]
    answered: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603
    return answered


def free_port() -> int:
    with listen("127.0.0.1", 0) as bound:
        return int(bound.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[object], log: Path, env: Mapping[str, str] | None = None) -> Iterator[psutil.Process]:
    with log.open("wb") as said:
        child = subprocess.Popen(  # noqa: S603 - what this file writes
            [str(part) for part in command], stdout=said, stderr=said, env={**os.environ, **(env or {})}
        )
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for(url: str, headers: Mapping[str, str], log: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            request = urllib.request.Request(url, BODY, {"content-type": "application/json", **headers})  # noqa: S310 - loopback
            urllib.request.urlopen(request, timeout=5).close()  # noqa: S310
            return
        except (OSError, urllib.error.HTTPError) as exc:
            if time.monotonic() > until:
                raise SystemExit(f"{url}: {exc}\n{log.read_text()[-2000:]}") from None
            time.sleep(0.1)


async def _make_key(url: str) -> str:
    engine = db.make_engine(url)
    async with engine.begin() as connection:
        store = ProjectStore(connection)
        await store.add("blue")
        await store.put_member("blue", "ada", Role.EDITOR)
        wanted = Wanted("blue", "measured", "ada", Role.EDITOR, None, timedelta(days=1))
        key, _ = await actions.make(connection, wanted, most=10)
    await engine.dispose()
    return str(key)


@contextlib.contextmanager
def our_gateway(home: Path, upstream: int) -> Iterator[Measured]:
    """The real process, on a PostgreSQL of its own."""
    postgres.initialise(home / "data", PASSWORD, durable=False)
    server = postgres.Server(home / "data", postgres.socket_folder(home), PASSWORD)
    try:
        databases.prepare(server.url, "gateway", {"gateway": PASSWORD})
        url = postgres.url_of(server.sockets, "gateway", PASSWORD, "gateway")
        migrations.upgrade("gateway", url)
        key = asyncio.run(_make_key(url))
        keys.init(home / "keys", ["gateway", *SERVICES])
        port = free_port()
        env = {
            "GATEWAY_DATABASE_URL": databases.plain(url),
            "GATEWAY_PRIVATE_KEY_FILE": str(home / "keys/gateway.private.json"),
            "GATEWAY_PUBLIC_KEYS_FILE": str(home / "keys/public.json"),
            "GATEWAY_PORT": str(port),
            "GATEWAY_WORK_DIR": str(home / "work"),
            # Limits are counted and told; they refuse nobody here.
            "GATEWAY_REQUESTS_PER_SECOND": PLENTY,
            "GATEWAY_REQUESTS_AT_ONCE": PLENTY,
            **{f"GATEWAY_{service.upper()}_URL": f"http://127.0.0.1:{upstream}" for service in SERVICES},
        }
        with running([sys.executable, "-m", "gateway", "api"], home / "gateway.log", env) as process:
            said = {"authorization": f"Bearer {key}"}
            wait_for(f"http://127.0.0.1:{port}{PREDICT}", said, home / "gateway.log")
            yield Measured("trainyard", process, port, [f"Authorization: Bearer {key}"])
    finally:
        server.stop()


@contextlib.contextmanager
def fastapi(name: str, app: str, home: Path, upstream: int, python: str) -> Iterator[Measured]:
    port, log = free_port(), home / f"{app}.log"
    options = ["--port", port, "--no-access-log", "--loop", "uvloop", "--http", "httptools", "--app-dir", HERE.parent]
    command = [python, "-m", "uvicorn", "--factory", f"benchmarks.gateway_peers:{app}", *options]
    with running(command, log, {"UPSTREAM": f"127.0.0.1:{upstream}"}) as process:
        wait_for(f"http://127.0.0.1:{port}{PREDICT}", {}, log)
        yield Measured(name, process, port)


@contextlib.contextmanager
def nginx(home: Path, upstream: int) -> Iterator[Measured]:
    port, config = free_port(), home / "nginx.conf"
    config.write_text(NGINX.format(home=home, upstream=upstream, port=port))
    with running(["nginx", "-p", home, "-c", config], home / "nginx.out") as process:
        wait_for(f"http://127.0.0.1:{port}{PREDICT}", {}, home / "nginx.out")
        yield Measured("nginx", process, port)


def table(servers: Sequence[Measured], cores: str) -> str:
    ours = servers[0]
    lines = [
        f"| {cores} | requests per CPU second | ours in ratio | p50 ms | p99 ms | failures |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for it in servers:
        ratio = statistics.median(mine / other for mine, other in zip(ours.rates, it.rates, strict=True))
        rate, p50, p99 = map(statistics.median, (it.rates, it.p50, it.p99))
        lines.append(f"| {it.name} | {rate:,.0f} | {ratio:,.1f} | {p50:.2f} | {p99:.2f} | {it.failures} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--python", default=sys.executable, help="an environment with FastAPI, aiohttp and httpx")
    asked: Any = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainyard-bench-")))
        (home / "body").write_bytes(BODY)
        upstream = free_port()
        echo = [sys.executable, HERE / "loopback.py", "echo", str(upstream)]
        stack.enter_context(running(echo, home / "echo.log"))
        wait_for(f"http://127.0.0.1:{upstream}/", {}, home / "echo.log")
        servers = [stack.enter_context(our_gateway(home, upstream))]
        if not asked.only_ours:
            servers.append(stack.enter_context(fastapi("FastAPI + httpx", "httpx_app", home, upstream, asked.python)))
            servers.append(
                stack.enter_context(fastapi("FastAPI + aiohttp", "aiohttp_app", home, upstream, asked.python))
            )
            if shutil.which("nginx"):
                servers.append(stack.enter_context(nginx(home, upstream)))
        for turn in range(asked.rounds + 1):
            for server in servers if turn % 2 else servers[::-1]:
                server.round(home / "body", asked.connections, asked.seconds if turn else 1)
        for server in servers:  # the first round warms up
            server.rates, server.p50, server.p99 = server.rates[1:], server.p50[1:], server.p99[1:]
        cores = f"{len(BODY)} bytes, {asked.connections} connections, {os.cpu_count()} cores"
        sys.stdout.write(table(servers, cores))
    return 0 if all(server.failures == 0 for server in servers[:1]) else 1


if __name__ == "__main__":
    sys.exit(main())
