"""A Kubernetes API server as far as the trainer uses one: it keeps objects with versions, streams what happens to them,
and does what a real one does with a deletion. It can be told to fail in the ways that real ones do.

What it answers is checked against a real server's answers in `test_kubernetes_answers.py`, and the tests with it run
against the cluster that KUBECONFIG names just as well.
"""

import asyncio
import json
import uuid
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

Object = dict[str, Any]
PLURALS = {
    "jobs": ("batch/v1", "Job"),
    "pods": ("v1", "Pod"),
    "secrets": ("v1", "Secret"),
    "services": ("v1", "Service"),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
    "leases": ("coordination.k8s.io/v1", "Lease"),
}
REASONS = {404: "NotFound", 409: "Conflict", 410: "Expired", 422: "Invalid", 500: "InternalError", 403: "Forbidden"}


class Refused(Exception):
    def __init__(self, code: int, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or REASONS.get(code, "")


@dataclass
class Fault:
    """What goes wrong with the requests that it fits."""

    fits: Callable[[str, str, dict[str, str]], bool]
    """Method, path, parameters; `agent` among these says who asks."""
    code: int = 500
    after: bool = False
    """Whether the request has its effect all the same: only the answer is lost."""
    times: int = 1
    does: Callable[[], object] = lambda: None
    """What happens at that moment."""


@dataclass
class Happened:
    version: int
    kind: str
    what: str
    document: Object


@dataclass
class FakeCluster:
    """The server. Times of graceful ends are up to the test: a pod with a node goes when it is told to be gone."""

    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    """What pods printed, by name."""
    draining: bool = False
    bookmark_seconds: float = 0.05

    def __post_init__(self) -> None:
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._version = 100
        self._history: list[Happened] = []
        self._all: list[Happened] = []
        self._oldest = self._version
        self._changed = asyncio.Event()
        self._mute: set[int] = set()
        self._stale: int | None = None
        self._last_made: Object | None = None

    # What a test does to it

    def compact(self) -> None:
        """Forget what happened: watches from old versions get 410."""
        self._history.clear()
        self._oldest = self._version
        self._touch()

    def lose_events(self, change: Callable[[], object]) -> None:
        """Change something without telling those who watch."""
        before = self._version
        change()
        self._mute |= set(range(before + 1, self._version + 1))

    def be_stale(self, version: int | None) -> None:
        """Lists are as old as that version from now on, as of a server that is behind. None: no longer."""
        self._stale = version

    def remove(self, plural: str, name: str) -> None:
        """Have an object gone at once."""
        [found] = [each for each in self.all(plural) if each["metadata"]["name"] == name]
        self._remove(plural, deepcopy(found))

    @property
    def history(self) -> list[Happened]:
        """All that ever happened."""
        return self._all

    @property
    def version(self) -> int:
        return self._version

    def all(self, plural: str) -> list[Object]:
        return [each for (kind, _, _), each in self._objects.items() if kind == plural]

    # The wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        method, path = scope["method"], scope["path"]
        params = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
        params |= {"agent": dict(scope["headers"]).get(b"user-agent", b"").decode()}
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.requests.append(f"{method} {path}" + ("?watch" if "watch" in params else ""))
        try:
            fault = self._fault(method, path, params)
            if fault is not None and not fault.after:
                fault.does()
                raise Refused(fault.code, "injected")
            if "watch" in params:
                await self._watch(path, params, receive, send)
                return
            answer = self._answer(method, path, params, json.loads(body) if body else {})
            if fault is not None:
                fault.does()
                raise Refused(fault.code, "injected, after the effect")
            await _send(send, 201 if self._is_new(answer) else 200, answer)
        except Refused as exc:
            await _send(send, exc.code, _status(exc))

    def _is_new(self, answer: Object | str) -> bool:
        """Whether the answer is about what it has made."""
        return self._last_made is not None and answer is self._last_made

    def _fault(self, method: str, path: str, params: dict[str, str]) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.fits(method, path, params):
                fault.times -= 1
                return fault
        return None

    def _answer(self, method: str, path: str, params: dict[str, str], body: Object) -> Object | str:
        plural, namespace, name, part = _parts(path)
        if part == "log":
            if name not in self.logs:
                raise Refused(404, f'pods "{name}" not found')
            return self.logs[name]
        match method:
            case "GET" if not name:
                return self._list(plural, namespace, params)
            case "GET":
                return self._get(plural, namespace, name)
            case "POST":
                return self._create(plural, namespace, body)
            case "PUT":
                return self._replace(plural, namespace, name, body)
            case "PATCH":
                return self._patch(plural, namespace, name, part, body)
            case "DELETE":
                return self._delete(plural, namespace, name, body, params)
        raise Refused(405, "the server does not allow this method on the requested resource")

    # The store

    def _get(self, plural: str, namespace: str, name: str) -> Object:
        found = self._objects.get((plural, namespace, name))
        if found is None:
            raise Refused(404, f'{_resource(plural)} "{name}" not found')
        return deepcopy(found)

    def _list(self, plural: str, namespace: str, params: dict[str, str]) -> Object:
        version, objects = self._version, self._objects
        if self._stale is not None:
            version, objects = self._stale, self._as_of(self._stale)
        wanted = _selected(params)
        found = [
            deepcopy(each)
            for (kind, where, _), each in sorted(objects.items())
            if kind == plural and where == namespace and wanted(each)
        ]
        start, limit = int(params.get("continue") or 0), int(params.get("limit") or 0) or len(found)
        if start and start < 0:
            raise Refused(410, "The provided continue parameter is too old")
        metadata: Object = {"resourceVersion": str(version)}
        if start + limit < len(found):
            metadata |= {"continue": str(start + limit), "remainingItemCount": len(found) - start - limit}
        api, kind = PLURALS[plural]
        items = found[start : start + limit]
        for item in items:  # a real server leaves these out of lists
            item.pop("kind", None), item.pop("apiVersion", None)
        return {"kind": f"{kind}List", "apiVersion": api, "metadata": metadata, "items": items}

    def _as_of(self, version: int) -> dict[tuple[str, str, str], Object]:
        found: dict[tuple[str, str, str], Object] = {}
        for each in self._all:
            if each.version <= version:
                metadata = each.document["metadata"]
                key = (each.kind, metadata["namespace"], metadata["name"])
                found.pop(key, None)
                if each.what != "DELETED":
                    found[key] = each.document
        return found

    def _create(self, plural: str, namespace: str, body: Object) -> Object:
        name = body["metadata"]["name"]
        if (plural, namespace, name) in self._objects:
            raise Refused(409, f'{_resource(plural)} "{name}" already exists', "AlreadyExists")
        template = body.get("spec", {}).get("template", {}).get("spec", {})
        if any(not each.get("image") for each in template.get("containers", ())):
            field = "spec.template.spec.containers[0].image"
            raise Refused(422, f'Job.batch "{name}" is invalid: {field}: Required value')
        api, kind = PLURALS[plural]
        metadata = body["metadata"] | {
            "namespace": namespace,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": _now(),
            "generation": 1,
        }
        metadata.pop("resourceVersion", None)
        made = body | {"kind": kind, "apiVersion": api, "metadata": metadata}
        if plural in ("jobs", "pods"):
            made["status"] = {"phase": "Pending"} if plural == "pods" else {}
        self._last_made = self._store(plural, made, "ADDED")
        return self._last_made

    def _replace(self, plural: str, namespace: str, name: str, body: Object) -> Object:
        if (plural, namespace, name) not in self._objects and plural == "leases":
            return self._create(plural, namespace, body)  # the only kind of these that a PUT makes
        found = self._get(plural, namespace, name)
        wanted = body["metadata"].get("resourceVersion")
        if wanted is not None and wanted != found["metadata"]["resourceVersion"]:
            raise Refused(409, _modified(plural, name))
        return self._store(plural, found | {key: value for key, value in body.items() if key != "metadata"})

    def _patch(self, plural: str, namespace: str, name: str, part: str, body: Object) -> Object:
        """Server-side apply, by one manager; or a merge patch of the status, for who plays the cluster's own parts."""
        wanted = body.get("metadata", {}).get("resourceVersion")
        if (plural, namespace, name) not in self._objects:
            if part:
                raise Refused(404, f'{_resource(plural)} "{name}" not found')
            return self._create(plural, namespace, body)
        found = self._get(plural, namespace, name)
        if wanted is not None and wanted != found["metadata"]["resourceVersion"]:
            raise Refused(409, _modified(plural, name))
        template = body.get("spec", {}).get("template")
        if plural == "jobs" and template not in (None, found["spec"].get("template")):
            raise Refused(422, f'Job.batch "{name}" is invalid: spec.template: field is immutable')
        changed = _merged(found, {key: value for key, value in body.items() if key not in ("kind", "apiVersion")})
        changed["metadata"] |= {key: found["metadata"][key] for key in ("uid", "resourceVersion", "namespace", "name")}
        if changed == found:
            return found
        if not changed["metadata"].get("finalizers") and "deletionTimestamp" in changed["metadata"]:
            return self._remove(plural, changed)
        return self._store(plural, changed)

    def _delete(self, plural: str, namespace: str, name: str, body: Object, params: dict[str, str]) -> Object:
        found = self._get(plural, namespace, name)
        uid = (body.get("preconditions") or {}).get("uid")
        if uid is not None and uid != found["metadata"]["uid"]:
            said = f"the UID in the precondition ({uid}) does not match the UID in record ({found['metadata']['uid']})"
            raise Refused(
                409, f'Operation cannot be fulfilled on {_resource(plural)} "{name}": Precondition failed: {said}'
            )
        metadata = found["metadata"]
        waits = body.get("propagationPolicy") == "Foreground" and self._owned(metadata["uid"])
        grace = body.get("gracePeriodSeconds", params.get("gracePeriodSeconds"))
        graceful = plural == "pods" and (found["spec"].get("nodeName") or "") != "" and str(grace) != "0"
        if not waits and not graceful:
            return self._remove(plural, found)
        if "deletionTimestamp" not in metadata:
            metadata["deletionTimestamp"] = _now()
            if waits:
                metadata["finalizers"] = ["foregroundDeletion"]
            self._store(plural, found)
            for kind, each in self._owned(metadata["uid"]):
                self._delete(kind, namespace, each["metadata"]["name"], {}, {})
        return found

    def _remove(self, plural: str, found: Object) -> Object:
        metadata = found["metadata"]
        del self._objects[plural, metadata["namespace"], metadata["name"]]
        self._version += 1
        found = found | {"metadata": metadata | {"resourceVersion": str(self._version)}}
        self._happened(plural, "DELETED", found)
        for kind, each in self._owned(metadata["uid"]):
            if "deletionTimestamp" not in each["metadata"]:
                self._delete(kind, metadata["namespace"], each["metadata"]["name"], {}, {})
        for owner in metadata.get("ownerReferences") or ():
            for (kind, _, _), each in list(self._objects.items()):
                leaves = each["metadata"]["uid"] == owner["uid"] and "deletionTimestamp" in each["metadata"]
                if leaves and not self._owned(owner["uid"]):
                    self._remove(kind, deepcopy(each))
        return found

    def _owned(self, uid: str) -> list[tuple[str, Object]]:
        return [
            (kind, each)
            for (kind, _, _), each in list(self._objects.items())
            if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences") or ())
        ]

    def _store(self, plural: str, document: Object, what: str = "MODIFIED") -> Object:
        self._version += 1
        document["metadata"]["resourceVersion"] = str(self._version)
        key = (plural, document["metadata"]["namespace"], document["metadata"]["name"])
        self._objects[key] = deepcopy(document)
        self._happened(plural, what, document)
        return deepcopy(document)

    def _happened(self, plural: str, what: str, document: Object) -> None:
        happened = Happened(self._version, plural, what, deepcopy(document))
        self._history.append(happened)
        self._all.append(happened)
        self._touch()

    def _touch(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # Watching

    async def _watch(self, path: str, params: dict[str, str], receive: Receive, send: Send) -> None:
        plural, namespace, _, _ = _parts(path)
        wanted, version = _selected(params), int(params["resourceVersion"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        gone = asyncio.create_task(_left(receive))
        bookmarks = params.get("allowWatchBookmarks") == "true"
        api, kind = PLURALS[plural]
        try:
            while not gone.done() and not self.draining:
                if version < self._oldest:
                    expired = Refused(410, f"too old resource version: {version} ({self._oldest})")
                    await _line(send, {"type": "ERROR", "object": _status(expired)})
                    break
                if (fault := self._fault("WATCH", path, params)) is not None:
                    fault.does()
                    break
                changed = self._changed
                for each in [it for it in self._history if it.version > version]:
                    version = each.version
                    ours = (each.kind, each.document["metadata"]["namespace"]) == (plural, namespace)
                    if ours and each.version not in self._mute and wanted(each.document):
                        await _line(send, {"type": each.what, "object": each.document})
                waits = asyncio.create_task(changed.wait())
                await asyncio.wait({waits, gone}, timeout=self.bookmark_seconds, return_when=asyncio.FIRST_COMPLETED)
                if not waits.done() and not gone.done() and bookmarks:
                    mark = {"kind": kind, "apiVersion": api, "metadata": {"resourceVersion": str(self._version)}}
                    await _line(send, {"type": "BOOKMARK", "object": mark})
                waits.cancel()
        finally:
            gone.cancel()
        await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _line(send: Send, event: Object) -> None:
    await send({"type": "http.response.body", "body": json.dumps(event).encode() + b"\n", "more_body": True})


async def _send(send: Send, code: int, answer: Object | str) -> None:
    text = isinstance(answer, str)
    body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
    kind = b"text/plain" if text else b"application/json"
    await send({"type": "http.response.start", "status": code, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


def _status(exc: Refused) -> Object:
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return head | {"message": exc.message, "reason": exc.reason, "code": exc.code}


def _parts(path: str) -> tuple[str, str, str, str]:
    """Plural, namespace, name, subresource."""
    _, _, rest = path.partition("/namespaces/")
    namespace, plural, name, part, *_ = [*rest.split("/"), "", "", "", ""]
    if plural not in PLURALS:
        raise Refused(404, "the server could not find the requested resource")
    return plural, namespace, name, part


def _resource(plural: str) -> str:
    api, _ = PLURALS[plural]
    return f"{plural}.{api.split('/')[0]}" if "/" in api else plural


def _modified(plural: str, name: str) -> str:
    return (
        f'Operation cannot be fulfilled on {_resource(plural)} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


def _selected(params: dict[str, str]) -> Callable[[Object], bool]:
    wanted = [each.split("=", 1) for each in (params.get("labelSelector") or "").split(",") if each]
    return lambda found: all((found["metadata"].get("labels") or {}).get(key) == value for key, value in wanted)


def _merged(found: Object, changes: Object) -> Object:
    merged = dict(found)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else deepcopy(value)
        if value is None:
            del merged[key]
    return merged


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
