"""Our own server answers as a real one does: the answers of Kubernetes 1.36.2 are beside this file, and whoever runs
this against a real cluster checks that file too.

    KUBECONFIG=… TRAINYARD_RECORD=1 pytest services/trainer/tests/test_kubernetes_answers.py     writes it anew
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from clusters_played import Player, a_cluster
from runners_at_work import Boss
from runners_of_clusters import SITE, Host, grant_of

from kit.testing import eventually
from trainer.domain import clusters
from trainer.domain.clusters import name_of
from trainer.domain.shapes import Shape
from trainer.kubernetes.cluster import MANAGER

RECORDED = Path(__file__).parent / "recorded" / "kubernetes-1.36.json"
APPLY = {"content-type": "application/apply-patch+yaml"}
JSON = {"content-type": "application/json"}


@pytest.fixture
async def player() -> AsyncIterator[Player]:
    async with a_cluster() as player:
        yield player


class Asker:
    """Asks, and remembers what is the same on all servers of what it hears."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.heard: dict[str, Any] = {}

    async def ask(self, what: str, method: str, path: str, body: Any = None, **given: Any) -> Any:
        start = "apis/batch/v1" if path.startswith("jobs") else "api/v1"
        start = "apis/coordination.k8s.io/v1" if path.startswith("leases") else start
        content = None if body is None else json.dumps(body)
        answer = await self.player.http.request(
            method, f"/{start}/namespaces/{self.player.namespace}/{path}", content=content, **given
        )
        self.heard[what] = _said(answer)
        return answer.json()

    async def watch(self, what: str, path: str, **params: str) -> list[Any]:
        start = "apis/batch/v1" if path.startswith("jobs") else "api/v1"
        url = f"/{start}/namespaces/{self.player.namespace}/{path}"
        events, params = list[Any](), {"watch": "true", "timeoutSeconds": "8"} | params
        async with self.player.http.stream("GET", url, params=params, timeout=20) as answer:
            async for line in answer.aiter_lines():
                events.append(json.loads(line))
                if events[-1]["type"] in ("ERROR", "BOOKMARK"):
                    break
        self.heard[what] = [_event(each) for each in events]
        return events


def _said(answer: httpx2.Response) -> dict[str, Any]:
    found = answer.json()
    said = {"code": answer.status_code, "kind": found["kind"]}
    if found["kind"] == "Status" and found["status"] == "Failure":
        said |= {"reason": found["reason"], "status": found["code"]}
    if found["kind"].endswith("List"):
        said |= {"items": sorted({key for item in found["items"] for key in item})}
        said |= {"metadata": sorted(found["metadata"])}
    return said


def _event(event: dict[str, Any]) -> dict[str, Any]:
    found = event["object"]
    said = {"type": event["type"], "kind": found["kind"]}
    if found["kind"] == "Status":
        said |= {"reason": found["reason"], "code": found["code"]}
    if event["type"] == "BOOKMARK":
        said |= {"metadata": [key for key in ("name", "resourceVersion") if found["metadata"].get(key)]}
    return said


async def conversation(player: Player) -> dict[str, Any]:
    """All that the trainer asks of a cluster, and what goes wrong with it."""
    asker, host = Asker(player), Host.of(player, Boss())
    grant, other = grant_of(), grant_of()
    name, applied = name_of(grant.attempt), {"fieldManager": MANAGER, "force": "true"}
    job = clusters.job(grant, host.site, Shape())
    await asker.ask("get what there is not", "GET", f"jobs/{name}")
    made = await asker.ask("apply what there is not", "PATCH", f"jobs/{name}", job, params=applied, headers=APPLY)
    again = await asker.ask("apply it again", "PATCH", f"jobs/{name}", job, params=applied, headers=APPLY)
    asker.heard["nothing has changed"] = made["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]
    changed = deepcopy(job)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    await asker.ask("change its pods", "PATCH", f"jobs/{name}", changed, params=applied, headers=APPLY)
    bad = clusters.job(other, host.site, Shape())
    bad["spec"]["template"]["spec"]["containers"][0]["image"] = ""
    await asker.ask("make it badly", "PATCH", f"jobs/{name_of(other.attempt)}", bad, params=applied, headers=APPLY)
    await _versions(asker, grant, host)
    await _lists_and_watches(asker, name, made)
    pod = await player.start(grant)
    wrong = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": grant.attempt}}
    await asker.ask("delete another one", "DELETE", f"jobs/{name}", wrong, headers=JSON)
    right = wrong | {"preconditions": {"uid": made["metadata"]["uid"]}, "propagationPolicy": "Foreground"}
    await asker.ask("delete it, and wait", "DELETE", f"jobs/{name}", right, headers=JSON)
    left = await asker.ask("it is still there", "GET", f"jobs/{name}")
    asker.heard["it leaves"] = [left["metadata"].get("finalizers"), "deletionTimestamp" in left["metadata"]]
    await asker.ask("end its pod", "DELETE", f"pods/{pod}")
    left = await asker.ask("the pod is still there", "GET", f"pods/{pod}")
    asker.heard["the pod leaves"] = "deletionTimestamp" in left["metadata"]
    await asker.ask("the pod is gone", "DELETE", f"pods/{pod}", params={"gracePeriodSeconds": "0"})
    await asker.ask("read of no pod", "GET", f"pods/{pod}")
    return asker.heard


async def _versions(asker: Asker, grant: Any, host: Host) -> None:
    secret = clusters.secret(grant, host.site, {})
    path, applied = f"secrets/{name_of(grant.attempt)}", {"fieldManager": MANAGER, "force": "true"}
    stale = deepcopy(secret)
    stale["metadata"]["resourceVersion"] = "1"
    await asker.ask("apply to a version of nothing", "PATCH", path, stale, params=applied, headers=APPLY)
    await asker.ask("apply a secret", "PATCH", path, secret, params=applied, headers=APPLY)
    await asker.ask("apply to an old version", "PATCH", path, stale, params=applied, headers=APPLY)
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "trainer"}, "spec": {}}
    await asker.ask("create", "POST", "leases", lease, headers=JSON)
    await asker.ask("create it again", "POST", "leases", lease, headers=JSON)
    lease["metadata"] = {"name": "trainer", "resourceVersion": "1"}
    await asker.ask("replace an old version", "PUT", "leases/trainer", lease, headers=JSON)
    lease["metadata"] = {"name": "nobody", "resourceVersion": "1"}
    await asker.ask("replace what there is not", "PUT", "leases/nobody", lease, headers=JSON)


async def _lists_and_watches(asker: Asker, name: str, made: Any) -> None:
    label = {"labelSelector": f"{clusters.HOST}=cluster"}
    found = await asker.ask("list", "GET", "jobs", params=label)
    await asker.ask("list what fits nothing", "GET", "jobs", params={"labelSelector": "no=thing"})
    version = found["metadata"]["resourceVersion"]
    asker.heard["versions are numbers that grow"] = int(version) >= int(made["metadata"]["resourceVersion"])
    await asker.watch("watch from too long ago", "jobs", resourceVersion="1", **label)
    marked = {"resourceVersion": version, "allowWatchBookmarks": "true"} | label
    watching = asyncio.create_task(asker.watch("watch what others change", "jobs", **marked))
    other = grant_of()
    elsewhere = clusters.job(other, replace(SITE, namespace=asker.player.namespace, host="another"), Shape())
    await eventually(lambda: asker.player.cluster.create(elsewhere))
    [mark] = await watching
    asker.heard["a mark is where the world is"] = int(mark["object"]["metadata"]["resourceVersion"]) > int(version)


async def test_our_server_answers_as_a_real_one_does(player: Player) -> None:
    heard = await conversation(player)
    if os.environ.get("TRAINYARD_RECORD"):
        RECORDED.write_text(json.dumps(heard, indent=1) + "\n")
    assert heard == json.loads(RECORDED.read_text())
