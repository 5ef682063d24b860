"""A Kubernetes API server, in the few verbs that a runner needs: documents in, documents out, its refusals as errors.

lightkube says where the server is and who we are (service account, kubeconfig, tokens that rotate). Its own calls are
not used: a watch of it knows no bookmarks, and its deletions no preconditions.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx2

from kit import errors

Object = dict[str, Any]
KINDS = {
    "Job": ("apis/batch/v1", "jobs"),
    "Pod": ("api/v1", "pods"),
    "Secret": ("api/v1", "secrets"),
    "Service": ("api/v1", "services"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
}
MANAGER = "trainyard-trainer"
PAGE = 500
PATIENCE = httpx2.Timeout(15.0, connect=3.0)
WATCH_SECONDS = 240
"""After that a server ends a watch by itself; a connection that is dead is noticed a little later."""


class Gone(Exception):
    """The server has forgotten that version: what there is must be listed anew."""


@contextlib.asynccontextmanager
async def connected(namespace: str) -> AsyncIterator["Cluster"]:
    """The cluster that this process is in, or that KUBECONFIG names."""
    # Every process of the trainer knows this command, and most need no cluster.
    from lightkube.config import client_adapter  # noqa: PLC0415
    from lightkube.config.kubeconfig import KubeConfig  # noqa: PLC0415

    chosen = KubeConfig.from_env().get()
    http = client_adapter.AsyncClient(chosen, client_adapter.ConnectionParams(timeout=PATIENCE, trust_env=False))
    async with http:
        yield Cluster(http, namespace)


class Cluster:
    """One namespace of a cluster.

    Every call raises errors.Unavailable when the server does not answer or has too much to do, errors.Forbidden when it
    does not let us, errors.Invalid when it does not take what it was given.
    """

    def __init__(self, http: httpx2.AsyncClient, namespace: str) -> None:
        self._http = http
        self.namespace = namespace

    async def get(self, kind: str, name: str) -> Object:
        """As it is now: this is asked of the cluster's store, and not of anybody's memory.

        Raises:
            errors.NotFound: there is none.
        """
        return await self._request("GET", self._path(kind, name))

    async def apply(self, document: Mapping[str, Any]) -> Object:
        """Have it so, whether it is there or not (server-side apply; what others set stays).

        Raises:
            errors.Conflict: it names a resource version, and that is not the newest one.
        """
        return await self._request(
            "PATCH",
            self._path(document["kind"], document["metadata"]["name"]),
            params={"fieldManager": MANAGER, "force": "true"},
            content=json.dumps(document),
            headers={"content-type": "application/apply-patch+yaml"},
        )

    async def create(self, document: Mapping[str, Any]) -> Object:
        """
        Raises:
            errors.Conflict: there is one of that name.
        """
        return await self._send("POST", self._path(document["kind"]), document, {"fieldManager": MANAGER})

    async def replace(self, document: Mapping[str, Any]) -> Object:
        """
        Raises:
            errors.Conflict: somebody changed it since the version that the document names.
            errors.NotFound: it is gone.
        """
        path = self._path(document["kind"], document["metadata"]["name"])
        return await self._send("PUT", path, document, {"fieldManager": MANAGER})

    async def delete(self, kind: str, name: str, *, uid: str | None = None, wait: bool = False) -> None:
        """Have it gone: this one alone when `uid` says which. `wait`: it stays to be seen until its pods are gone."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        options["propagationPolicy"] = "Foreground" if wait else "Background"
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        with contextlib.suppress(errors.NotFound, errors.Conflict):  # another one of that name is not ours
            await self._send("DELETE", self._path(kind, name), options)

    async def list(self, kind: str, labels: Mapping[str, str]) -> tuple[Sequence[Object], str]:
        """All with these labels, and the version at which that was so."""
        params = {"labelSelector": _selector(labels), "limit": str(PAGE)}
        found: list[Object] = []
        while True:
            try:
                page = await self._request("GET", self._path(kind), params=params)
            except Gone:  # of the pages that were still to come
                params.pop("continue", None)
                found.clear()
                continue
            found += page.get("items") or []
            if not (following := page["metadata"].get("continue")):
                return found, page["metadata"]["resourceVersion"]
            params["continue"] = following

    async def watch(self, kind: str, labels: Mapping[str, str], version: str) -> AsyncIterator[tuple[str, Object]]:
        """What happens after a version, until the server ends it: `(ADDED | MODIFIED | DELETED | BOOKMARK, document)`.

        Raises:
            Gone: that version is too old.
        """
        params = {
            "labelSelector": _selector(labels),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        patience = httpx2.Timeout(WATCH_SECONDS + 30, connect=3.0)
        try:
            async with self._http.stream("GET", self._path(kind), params=params, timeout=patience) as response:
                if response.is_error:
                    await response.aread()
                    raise _error(response.status_code, response.text, response.headers)
                async for line in response.aiter_lines():
                    yield _event(line)
        except httpx2.HTTPError as exc:
            raise errors.Unavailable(f"The cluster's watch broke off: {exc}") from None

    async def tail(self, pod: str, *, container: str, lines: int, limit: int) -> str:
        """The end of what a container printed; nothing when nobody can say.

        `limit`: bytes. The server counts them from the start of the lines that it was asked for.
        """
        params = {"container": container, "tailLines": str(lines)}
        chunks, size = [b""], 0
        try:
            async with self._http.stream("GET", f"{self._path('Pod', pod)}/log", params=params) as response:
                if response.is_error:
                    return ""
                async for chunk in response.aiter_bytes():
                    chunks.append(chunk)
                    size += len(chunk)
                    while size - len(chunks[0]) >= limit:
                        size -= len(chunks.pop(0))
        except httpx2.HTTPError:
            pass  # what came of it is better than nothing
        return b"".join(chunks)[-limit:].decode(errors="replace").replace("\0", "").strip()

    def _path(self, kind: str, name: str | None = None) -> str:
        start, plural = KINDS[kind]
        path = f"/{start}/namespaces/{self.namespace}/{plural}"
        return path if name is None else f"{path}/{name}"

    async def _send(self, method: str, path: str, document: Mapping[str, Any], params: Any = None) -> Object:
        head = {"content-type": "application/json"}
        return await self._request(method, path, content=json.dumps(document), headers=head, params=params)

    async def _request(self, method: str, path: str, **given: Any) -> Object:
        try:
            response = await self._http.request(method, path, **given)
        except httpx2.HTTPError as exc:
            raise errors.Unavailable(f"The cluster does not answer: {exc}") from None
        if response.is_error:
            raise _error(response.status_code, response.text, response.headers)
        try:
            found: Object = response.json()
        except ValueError:
            raise errors.Unavailable("The cluster's answer was cut off.") from None
        return found


OF_STATUS: dict[int, type[errors.Error]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    422: errors.Invalid,
    400: errors.Invalid,
    429: errors.TooMany,
}


def _error(status: int, text: str, headers: Mapping[str, str]) -> Exception:
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        message = text
    if status == 410:
        return Gone(message)
    after = headers.get("retry-after", "")
    return OF_STATUS.get(status, errors.Unavailable)(
        f"The cluster answered {status}: {message}"[:1000],
        retry_after=timedelta(seconds=int(after)) if after.isdecimal() else None,
    )


def _event(line: str) -> tuple[str, Object]:
    try:
        event = json.loads(line)
        kind, found = event["type"], event["object"]
    except (ValueError, KeyError, TypeError):
        raise errors.Unavailable("The cluster's watch was cut off.") from None
    if kind == "ERROR":
        raise _error(int(found.get("code") or 500), json.dumps(found), {})
    return kind, found


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())
