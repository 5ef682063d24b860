"""The trainer as processes, with neighbours on loopback: what its users, runners and killers see."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2
from attempts_at_work import flights
from neighbours import Neighbours

from kit.testing import DatabaseUrl, KeyFolder, eventually
from trainyard_local import ports

T = TypeVar("T")
Json = dict[str, Any]
FINAL = ("succeeded", "failed", "cancelled")
PATIENCE = timedelta(seconds=60)
QUICK = {"class": "sklearn.tree.DecisionTreeClassifier", "parameters": {"max_depth": 3}}
SLOW = {"class": "sklearn.ensemble.RandomForestClassifier", "parameters": {"n_estimators": 10_000}}
FEATURES = ["carrier", "hour", "wind"]


def until(check: Callable[[], T], timeout: timedelta = PATIENCE) -> T:
    """`eventually`, for tests that are not coroutines."""
    return asyncio.run(eventually(check, timeout))


class Trainer:
    """`all` and `runner`, each killed and started as the test likes. Use it as a context."""

    def __init__(self, folder: Path, database_url: DatabaseUrl, key_folder: KeyFolder, objects_url: str) -> None:
        self.folder = folder
        self.neighbours = Neighbours()
        self.port = ports.choose({}, ["trainer"])["trainer"]
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = {
            "TRAINER_DATABASE_URL": database_url("trainer"),
            "TRAINER_PORT": str(self.port),
            "TRAINER_OBJECTS_URL": objects_url,
            "TRAINER_PRIVATE_KEY_FILE": str(key_folder.private("trainer")),
            "TRAINER_PUBLIC_KEYS_FILE": str(key_folder.public),
            "TRAINER_WORK_DIR": str(folder / "work"),
            "TRAINER_INGEST_URL": self.neighbours.url,
            "TRAINER_REGISTRY_URL": self.neighbours.url,
            "TRAINER_TRAINER_URL": self.url,
            "TRAINER_RUNNER_SLOTS": "2",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

        def signed(request: httpx2.Request) -> httpx2.Request:
            request.headers.update(key_folder.headers("trainer"))  # a token lives for a minute, some tests for longer
            return request

        self.http = httpx2.Client(base_url=self.url, trust_env=False, timeout=30, auth=signed)
        table = flights(600)
        self.neighbours.add_version(train=table.slice(0, 450), held_out=table.slice(450))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.stop(name, timeout=30)
        self.http.close()
        self.neighbours.close()

    def start(self, *names: str, waits: bool = True, **settings: str) -> Self:
        for name in names or ("all", "runner"):
            with (self.folder / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "trainer", name],
                    env=os.environ | self._settings | {f"TRAINER_{key}": value for key, value in settings.items()},
                    stdout=log,
                    stderr=log,
                )
        if waits and "all" in self.processes:
            until(self.answers)
        return self

    def answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self, name: str, timeout: float = 30) -> int:
        process = self.processes.pop(name)
        process.terminate()
        return process.wait(timeout)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        pid = self.processes[name].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def submit(self, **given: Any) -> str:
        body = {
            "dataset": "flights@3",
            "task": "classification",
            "target": "late",
            "features": FEATURES,
            "estimator": QUICK,
            "register": {"model": "delays"},
        }
        answer = self.http.post("/v1/jobs", json=body | given)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, id: str) -> Json:
        answer = self.http.get(f"/v1/jobs/{id}")
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def ended(self, id: str, timeout: timedelta = PATIENCE) -> Json:
        until(lambda: self.job(id)["status"]["phase"] in FINAL, timeout)
        return self.job(id)

    def fitting(self, id: str) -> int:
        """Wait until the program works on it. Says its keeper's pid."""
        until(lambda: (self.job(id)["progress"] or {}).get("stage") == "fitting")
        return until(self.keeper) or 0

    def log(self, id: str) -> list[str]:
        page = self.http.get(f"/v1/jobs/{id}/logs", params={"page_size": "1000"}).json()
        return [line["message"] for line in page["items"]]

    def attempts(self) -> list[Path]:
        folder = self.folder / "work" / "runner" / "attempts"
        return list(folder.iterdir()) if folder.exists() else []

    def keeper(self) -> int | None:
        """The keeper's pid of the only attempt."""
        [folder] = self.attempts()
        path = folder / "work" / "keeper.pid"
        return int(path.read_text()) if path.exists() else None
