"""A Kubernetes API server as far as kit.cluster knows one: Secrets and ConfigMaps of one namespace, and refusals."""

import json
from collections.abc import Callable
from typing import Any

import httpx2

from kit.cluster import Cluster, Kind, text_of

NAMESPACE = "here"


class FakeCluster:
    """Keeps objects with resource versions; a replacement of an older version is a conflict."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.forbidden: set[tuple[str, str]] = set()
        """Methods and kinds that are refused."""
        self.before: Callable[[str, str], None] = lambda method, kind: None
        """Called with every request, before it has an effect: what somebody else does meanwhile."""
        self._version = 0

    def client(self) -> Cluster:
        transport = httpx2.MockTransport(self.handle)
        return Cluster(httpx2.Client(base_url="https://cluster", transport=transport), NAMESPACE)

    def put(self, kind: Kind, name: str, **fields: Any) -> None:
        self._version += 1
        version = {"metadata": {"name": name, "resourceVersion": str(self._version)}}
        self.objects[kind, name] = {**fields, "metadata": {**fields.get("metadata", {}), **version["metadata"]}}

    def text(self, kind: Kind, name: str, key: str) -> str | None:
        return text_of(kind, self.objects[kind, name], key)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        status, document = self.answer(request.method, request.url.path, request.content)
        return httpx2.Response(status, json=document)

    def answer(self, method: str, path: str, content: bytes) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        start, _, rest = path.partition(f"/namespaces/{NAMESPACE}/")
        kind, _, name = rest.partition("/")
        if start != "/api/v1" or kind not in ("secrets", "configmaps"):
            return _status(404, "the server could not find the requested resource")
        self.before(method, kind)
        if (method, kind) in self.forbidden:
            return _status(403, f'{kind} is forbidden: User "hook" cannot {method}')
        document = json.loads(content or b"{}")
        found = self.objects.get((kind, name or document.get("metadata", {}).get("name", "")))
        if method == "POST":
            return _status(409, "already exists") if found else self._kept(kind, document, 201)
        if found is None:
            return _status(404, f'{kind} "{name}" not found')
        if method == "GET":
            return 200, found
        if document["metadata"].get("resourceVersion") != found["metadata"]["resourceVersion"]:
            return _status(409, "the object has been modified")
        return self._kept(kind, document, 200)

    def _kept(self, kind: Any, document: dict[str, Any], status: int) -> tuple[int, dict[str, Any]]:
        name = document["metadata"]["name"]
        self.put(kind, name, **document)
        return status, self.objects[kind, name]


def _status(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "code": code, "message": message}
