"""Who plays a cluster's own parts in a test: its controller of Jobs, its nodes. Through the API, so on a real server
too: Jobs name another controller than its own, and pods are on a node that there is none of."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
from cluster_at_work import FakeCluster
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster as ClusterAt
from lightkube.config.models import User

from kit.ids import uuid7
from kit.server import listen, serve
from trainer.domain.clusters import ATTEMPT, CONTAINER, INDEX, name_of
from trainer.domain.grants import Grant
from trainer.kubernetes.cluster import Cluster

Object = dict[str, Any]
MANAGED_BY = "trainyard.example/test"
REAL = os.environ.get("TRAINYARD_TEST_KUBECONFIG") or os.environ.get("KUBECONFIG")


@contextlib.asynccontextmanager
async def served(fake: FakeCluster) -> AsyncIterator[str]:
    """The fake on a port of this machine. Says its URL."""
    socket, stop = listen("127.0.0.1", 0), asyncio.Event()
    url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    nothing = timedelta(0)
    task = asyncio.create_task(
        serve(fake, host="127.0.0.1", port=0, drain=nothing, grace=timedelta(seconds=5), stop=stop, sockets=[socket])
    )
    try:
        yield url
    finally:
        fake.draining = True
        stop.set()
        await task


class Player:
    """Plays the controller of Jobs and the nodes."""

    def __init__(self, http: httpx2.AsyncClient, namespace: str, *, collects: bool = False) -> None:
        self.http = http
        self.collects = collects
        self.namespace = namespace
        self.cluster = Cluster(http, namespace)
        self.runners = self.cluster
        """As runners ask: on our own server, faults can tell them from the test."""

    async def job(self, grant: Grant) -> Object:
        return await self.cluster.get("Job", name_of(grant.attempt))

    async def has_job(self, grant: Grant) -> bool:
        jobs, _ = await self.cluster.list("Job", {ATTEMPT: grant.attempt})
        return bool(jobs)

    async def start(self, grant: Grant, index: int = 0, node: str = "nowhere") -> str:
        """A pod of the Job begins to run. Says its name."""
        job = await self.job(grant)
        template, name = job["spec"]["template"], f"{job['metadata']['name']}-{index}-{uuid7().hex[-5:]}"
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": job["metadata"]["name"],
            "uid": job["metadata"]["uid"],
        }
        labels = template["metadata"]["labels"] | {INDEX: str(index)}
        owners = [owner | {"controller": True, "blockOwnerDeletion": True}]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "ownerReferences": owners},
            "spec": template["spec"] | {"nodeName": node},
        }
        await self.cluster.create(pod)
        await self.status("pods", name, {"phase": "Running", "containerStatuses": [_container({"running": {}})]})
        return name

    async def end(self, pod: str, code: int, reason: str = "", **status: Any) -> None:
        ended = {"exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error")}
        phase = "Succeeded" if code == 0 else "Failed"
        said = {"phase": phase, "containerStatuses": [_container({"terminated": ended})]}
        await self.status("pods", pod, said | status)

    async def wait_for(self, pod: str, reason: str, message: str) -> None:
        """The pod cannot start."""
        waiting = {"waiting": {"reason": reason, "message": message}}
        await self.status("pods", pod, {"phase": "Pending", "containerStatuses": [_container(waiting)]})

    async def disrupt(self, pod: str, message: str) -> None:
        """The pod is taken from its node."""
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": message,
        }
        await self.status("pods", pod, {"conditions": [condition | {"lastTransitionTime": _now()}]})
        await self.http.request("DELETE", self._path("pods", pod))

    async def gone(self, pod: str) -> None:
        await self.http.request("DELETE", self._path("pods", pod), params={"gracePeriodSeconds": "0"})

    async def leaves(self, grant: Grant) -> bool:
        """Whether the Job was told to end."""
        jobs, _ = await self.cluster.list("Job", {ATTEMPT: grant.attempt})
        return all("deletionTimestamp" in each["metadata"] for each in jobs)

    async def holds(self, holder: str) -> bool:
        lease = await self.cluster.get("Lease", "trainer")
        return bool(lease["spec"].get("holderIdentity") == holder)

    async def collect(self, grant: Grant) -> None:
        """What a cluster does about things whose owner is gone or leaves, where nobody does it."""
        if not self.collects:
            return
        pods, jobs = await self.pods(grant), (await self.cluster.list("Job", {ATTEMPT: grant.attempt}))[0]
        for pod in pods:
            await self.http.request("DELETE", self._path("pods", pod["metadata"]["name"]))
        if jobs and not pods:
            path = self._path("jobs", jobs[0]["metadata"]["name"])
            head = {"content-type": "application/merge-patch+json"}
            await self.http.patch(path, json={"metadata": {"finalizers": None}}, headers=head)
        if not jobs:
            for kind in ("Service", "NetworkPolicy"):
                await self.cluster.delete(kind, name_of(grant.attempt))

    async def complete(self, grant: Grant) -> None:
        await self._close(grant, ["SuccessCriteriaMet", "Complete"], "CompletionsReached", {"completionTime": _now()})

    async def fail(self, grant: Grant, reason: str = "PodFailurePolicy", message: str = "a pod failed") -> None:
        await self._close(grant, ["FailureTarget", "Failed"], reason, {}, message)

    async def pods(self, grant: Grant) -> list[Object]:
        found, _ = await self.cluster.list("Pod", {ATTEMPT: grant.attempt})
        return list(found)

    async def status(self, plural: str, name: str, status: Object) -> None:
        head = {"content-type": "application/merge-patch+json"}
        answer = await self.http.patch(self._path(plural, name, "status"), json={"status": status}, headers=head)
        assert answer.is_success, answer.text

    async def _close(
        self, grant: Grant, types: list[str], reason: str, times: Object, message: str = "all is done"
    ) -> None:
        at = {"status": "True", "reason": reason, "message": message, "lastTransitionTime": _now()}
        conditions = [{"type": each} | at | {"lastProbeTime": _now()} for each in types]
        begun: Object = {"startTime": _now(), "active": 0, "ready": 0, "terminating": 0}
        await self.status("jobs", name_of(grant.attempt), begun | {"conditions": conditions} | times)

    def _path(self, plural: str, name: str, part: str = "") -> str:
        group = "apis/batch/v1" if plural == "jobs" else "api/v1"
        return f"/{group}/namespaces/{self.namespace}/{plural}/{name}" + (f"/{part}" if part else "")


def _container(state: Object) -> Object:
    head = {"name": CONTAINER, "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    return head | {"state": state}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.asynccontextmanager
async def player_of(fake: FakeCluster) -> AsyncIterator[Player]:
    """On our own server."""
    async with served(fake) as url:
        config = KubeConfig.from_one(cluster=ClusterAt(server=url), user=User(token="of-a-test")).get()
        params = client_adapter.ConnectionParams(trust_env=False)
        async with (
            client_adapter.AsyncClient(config, params) as http,
            client_adapter.AsyncClient(config, params) as own,
        ):
            own.headers["user-agent"] = "runner"
            player = Player(http, "jobs")
            player.runners = Cluster(own, "jobs")
            yield player


@contextlib.asynccontextmanager
async def a_cluster() -> AsyncIterator[Player]:
    """The cluster that KUBECONFIG names, in a namespace of its own; our own server, if it names none."""
    if not REAL:
        async with player_of(FakeCluster()) as player:
            yield player
        return
    config, namespace = KubeConfig.from_file(REAL).get(), f"trainyard-test-{uuid7().hex[-10:]}"
    async with client_adapter.AsyncClient(config, client_adapter.ConnectionParams(trust_env=False)) as http:
        made = await http.post("/api/v1/namespaces", json={"metadata": {"name": namespace}})
        assert made.is_success, made.text
        # Where no controller runs, nobody makes the account that every pod needs, and nobody removes what is nobody's.
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        alone = (await http.get("/api/v1/namespaces/kube-system/serviceaccounts/job-controller")).is_error
        if alone:
            await http.post(path, json={"metadata": {"name": "default"}})
        try:
            yield Player(http, namespace, collects=alone)
        finally:
            await http.delete(f"/api/v1/namespaces/{namespace}")
