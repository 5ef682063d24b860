"""A job goes all the way in a cluster: its pods are processes here, and the cluster's API is our own server."""

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from attempts_at_work import flights
from cluster_at_work import FakeCluster
from clusters_played import Player, player_of
from neighbours import Neighbours
from requests_made import BODY
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import server
from kit.testing import KeyFolder, eventually
from trainer import app as composition
from trainer.domain.attempts import Exit
from trainer.domain.clusters import ATTEMPT, TOKEN, name_of
from trainer.settings import Settings

PATIENCE = timedelta(seconds=120)


class Node:
    """Starts the pod of each Job as a process, with what the manifest tells it."""

    def __init__(self, player: Player, folder: Path) -> None:
        self.player = player
        self.folder = folder
        self.codes: list[int] = []
        self._begun: set[str] = set()

    async def run(self) -> None:
        while True:
            jobs, _ = await self.player.cluster.list("Job", {})
            for job in jobs:
                if job["metadata"]["uid"] not in self._begun:
                    self._begun.add(job["metadata"]["uid"])
                    await self._run_pod(job)
            await asyncio.sleep(0.05)

    async def _run_pod(self, job: dict[str, Any]) -> None:
        attempt = job["metadata"]["labels"][ATTEMPT]
        grant: Any = type("Named", (), {"attempt": attempt})
        pod = await self.player.start(grant)
        [container] = job["spec"]["template"]["spec"]["containers"]
        secret = await self.player.cluster.get("Secret", name_of(attempt))
        token = self.folder / f"{attempt}.token"
        token.write_bytes(base64.b64decode(secret["data"][TOKEN]))
        told = {each["name"]: each["value"] for each in container["env"]}
        told |= {"TRAINYARD_TOKEN_FILE": str(token), "TRAINYARD_WORK": str(self.folder / attempt)}
        env = {"PATH": os.environ["PATH"], "JOB_COMPLETION_INDEX": "0"} | told
        process = await asyncio.create_subprocess_exec(sys.executable, *container["command"][1:], env=env)
        code = await process.wait()
        self.codes.append(code)
        await self.player.end(pod, code)
        await (self.player.complete(grant) if code == 0 else self.player.fail(grant))
        await self.player.gone(pod)


@pytest.fixture
async def fake() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
async def node(fake: FakeCluster, tmp_path: Path) -> AsyncIterator[Node]:
    async with player_of(fake) as player:
        node = Node(player, tmp_path)
        task = asyncio.create_task(node.run())
        yield node
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def whole(
    settings: Settings,
    neighbours: Neighbours,
    engine: AsyncEngine,
    node: Node,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[str]:
    """The trainer with a runner of that cluster. Says the trainer's URL."""
    bound = server.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    config = {
        "clusters": [{"name": "c", "cluster": {"server": str(node.player.http.base_url)}}],
        "users": [{"name": "u", "user": {"token": "of-a-test"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    urls = {"ingest_url": neighbours.url, "registry_url": neighbours.url, "trainer_url": url}
    told = settings.model_copy(update={**urls, "kubernetes_namespace": "jobs", "runner_port": 0})
    app, stop = composition.create_app(told), asyncio.Event()
    grace = timedelta(seconds=5)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            server.serve(app, host="", port=0, drain=timedelta(0), stop=stop, sockets=[bound], grace=grace)
        )
        group.create_task(composition.loops(told, stop))
        group.create_task(composition.run_cluster_until(told, stop))
        yield url
        stop.set()


async def ended(client: httpx2.AsyncClient, path: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        job: dict[str, Any] = (await client.get(path, params={"wait": "10s"})).json()
        return job if job["status"]["phase"] in ("succeeded", "failed", "cancelled") else None

    found = await eventually(look, PATIENCE)
    assert found is not None
    return found


async def test_a_job_goes_all_the_way_in_a_cluster(
    whole: str, node: Node, fake: FakeCluster, neighbours: Neighbours, key_folder: KeyFolder
) -> None:
    neighbours.add_version(train=flights(400), held_out=flights(100, 1))
    headers = key_folder.headers("trainer", project="blue")
    async with httpx2.AsyncClient(base_url=whole, headers=headers, trust_env=False, timeout=30) as client:
        answer = await client.post("/v1/jobs", json=BODY, headers={"idempotency-key": "one"})
        path = answer.headers["location"]
        job = await ended(client, path)
        lines = (await client.get(f"{path}/logs")).json()["items"]
    assert job["status"]["phase"] == "succeeded", (job, lines)
    assert job["model"]["name"] == "delays"
    assert node.codes == [0]
    sources = {line["source"].partition("/")[0] for line in lines}
    assert sources == {"runner", "job"}
    assert "fitting" in [line["message"] for line in lines]
    await eventually(lambda: not fake.all("jobs") and not fake.all("secrets"))


async def test_a_mistake_is_told_by_the_pod_itself(
    whole: str, node: Node, neighbours: Neighbours, key_folder: KeyFolder
) -> None:
    neighbours.add_version(train=flights(40), held_out=flights(10, 1))
    headers = key_folder.headers("trainer", project="blue")
    wrong = BODY | {"task": "regression", "target": "carrier", "features": ["hour"], "baseline": ["hour"]}
    wrong |= {"estimator": {"class": "sklearn.linear_model.LinearRegression", "parameters": {}}}
    async with httpx2.AsyncClient(base_url=whole, headers=headers, trust_env=False, timeout=30) as client:
        answer = await client.post("/v1/jobs", json=wrong, headers={"idempotency-key": "two"})
        assert answer.is_success, answer.text
        job = await ended(client, answer.headers["location"])
    assert (job["status"]["phase"], job["status"]["reason"]) == ("failed", "user-error")
    assert node.codes == [Exit.USER_ERROR]
