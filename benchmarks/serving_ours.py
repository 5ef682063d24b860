"""Our serving as it runs in production: the real registry, PostgreSQL, a reconciler, and one process that answers.

Only that process is measured. Every request brings an internal token, is validated, limited, counted and logged.
"""

import contextlib
import hashlib
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks.gateway import free_port, running
from benchmarks.serving_models import Made
from kit import databases, keys, migrations
from kit.callers import Role
from kit.tokens import Signer, load_signer
from trainyard_local import postgres

PASSWORD = "for-measuring"  # noqa: S105 - of a server that lives as long as this run, in a folder of its own
SERVICES = ("registry", "trainer", "serving", "gateway", "ingest", "pipelines")
PROJECT = "bench"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""As the chart and the supervisor start it."""
NUMPY_KERNEL = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Set on some machines for older releases; they slow a current one."""


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Of any server that is measured."""
    kept = {name: value for name, value in os.environ.items() if name not in NUMPY_KERNEL}
    return {**kept, **ONE_THREAD, **more}


@dataclass
class Platform:
    """A registry and a serving that answers; `serving` is the process to look at."""

    home: Path
    registry: str
    serving_port: int
    serving: psutil.Process
    ready_seconds: float
    """From the start of the process to its first ready answer, with nothing to load."""

    def token(self, issuer: str, audience: str) -> str:
        """One that is good for a minute. Another call makes another one when the last one has half of it left."""
        return self._signer(issuer).mint(audience, PROJECT, Role.EDITOR, "bench")

    def _signer(self, issuer: str) -> Signer:
        return load_signer(self.home / f"keys/{issuer}.private.json")

    def call(self, method: str, url: str, token: str, content: bytes | None, **headers: str) -> Any:
        """One request to one of ours, and the JSON that it answers."""
        said = {"authorization": f"Bearer {token}", **headers}
        request = urllib.request.Request(url, content, said, method=method)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return orjson.loads(answer.read() or b"null")
        except urllib.error.HTTPError as exc:
            raise SystemExit(f"{method} {url}: {exc.code} {exc.read().decode()}") from None

    def register(self, name: str, made: Made) -> str:
        """A version, as the trainer registers it. Says how it is referred to."""
        token = self.token("trainer", "registry")
        described = []
        for kind, content in made.files.items():
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            url = f"{self.registry}/internal/v1/blobs/{digest}"
            self.call("PUT", url, token, content, **{"content-type": "application/octet-stream"})
            described.append({"format": kind, "path": f"model.{kind}", "digest": digest, "size": len(content)})
        manifest = {
            "formats": described,
            "signature": made.signature,
            "task": made.signature["task"],
            "input_example": list(made.example),
            "lineage": {
                "dataset": f"{name}@1",
                "dataset_digest": made.dataset,
                "job": str(uuid.uuid4()),
                "attempt": 1,
                "code_digest": made.dataset,
                "environment": {},
            },
            "twin": made.verdict,
        }
        url = f"{self.registry}/internal/v1/models/{name}/versions"
        found = self.call("PUT", url, token, orjson.dumps(manifest), **{"content-type": "application/json"})
        return f"{found['model']}@{found['version']}"

    def deploy(self, name: str, model: str, **limits: int) -> str:
        """Serve the model, and wait until it answers; or why it does not."""
        url, token = f"http://127.0.0.1:{self.serving_port}/v1/deployments/{name}", self.token("gateway", "serving")
        wanted = orjson.dumps({"model": model, "limits": limits} if limits else {"model": model})
        self.call("PUT", url, token, wanted, **{"content-type": "application/json"})
        found = self.call("GET", f"{url}?wait=60s", token, None)
        status = found["status"]
        return "" if status["phase"] == "ready" else f"not yet: {status.get('message') or status['phase']}"


@contextlib.contextmanager
def platform(home: Path) -> Iterator[Platform]:
    """All of it, in one folder; nothing is left running."""
    keys.init(home / "keys", SERVICES)
    postgres.initialise(home / "data", PASSWORD, durable=False)
    server = postgres.Server(home / "data", postgres.socket_folder(home), PASSWORD)
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        databases.prepare(server.url, "suite", {"registry": PASSWORD, "serving": PASSWORD})
        ports = {"registry": free_port(), "serving": free_port(), "reconcile": free_port()}
        told: dict[str, dict[str, str]] = {}
        for service in ("registry", "serving"):
            url = postgres.url_of(server.sockets, service, PASSWORD, "suite")
            migrations.upgrade(service, url)
            own = {
                "DATABASE_URL": databases.plain(url),
                "PORT": str(ports[service]),
                "PRIVATE_KEY_FILE": str(home / f"keys/{service}.private.json"),
                "PUBLIC_KEYS_FILE": str(home / "keys/public.json"),
                "WORK_DIR": str(home / f"work-{service}"),
                "OBJECTS_URL": (home / "objects").as_uri(),
                "REGISTRY_URL": f"http://127.0.0.1:{ports['registry']}",
                "WAITING_REQUESTS": "1024",
            }
            told[service] = environment({f"{service.upper()}_{name}": value for name, value in own.items()})
        reconcile = {**told["serving"], "SERVING_PORT": str(ports["reconcile"])}
        started = {"registry": ("registry", "api", told["registry"]), "reconcile": ("serving", "reconcile", reconcile)}
        for name, (service, mode, env) in started.items():
            stack.enter_context(running([sys.executable, "-m", service, mode], home / f"{name}.log", env))
            await_ready(ports[name], home / f"{name}.log")
        command = [sys.executable, "-m", "serving", "api"]
        process = stack.enter_context(running(command, home / "serving.log", told["serving"]))
        seconds = await_ready(ports["serving"], home / "serving.log")
        yield Platform(home, f"http://127.0.0.1:{ports['registry']}", ports["serving"], process, seconds)


def await_ready(port: int, log: Path, path: str = "/readyz", seconds: float = 60) -> float:
    """Wait for an answer of 200; the seconds that it took."""
    began = time.perf_counter()
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).close()
            return time.perf_counter() - began
        if time.perf_counter() - began > seconds:
            raise SystemExit(f"port {port} did not become ready:\n{log.read_text()[-2000:]}")
        time.sleep(0.005)
