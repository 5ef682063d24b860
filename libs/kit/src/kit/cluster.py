"""Secrets and ConfigMaps of the namespace that this pod is in: the little that a Job of ours asks of Kubernetes."""

import base64
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import httpx2

MOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LABELS = {"app.kubernetes.io/part-of": "trainyard", "app.kubernetes.io/created-by": "trainyard"}
RETRIES = 6
"""Of connecting: a network policy may take a moment to let a new pod through."""
Kind = Literal["secrets", "configmaps"]


class Refused(Exception):
    """It cannot be done, and what to change."""


class Cluster:
    """One namespace, as the pod's service account may see and change it."""

    def __init__(self, client: httpx2.Client, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    def find(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """The object, or None."""
        response = self._client.get(self._path(kind, name))
        return None if response.status_code == httpx2.codes.NOT_FOUND else _checked(response, kind, name)

    def create(self, kind: Kind, name: str, data: Mapping[str, str]) -> bool:
        """Whether it was made; False when there is one."""
        document = {"metadata": {"name": name, "labels": LABELS}, **_content(kind, data)}
        response = self._client.post(self._path(kind), json=document)
        if response.status_code == httpx2.codes.CONFLICT:
            return False
        _checked(response, kind, name)
        return True

    def replace(self, kind: Kind, found: Mapping[str, Any], data: Mapping[str, str]) -> bool:
        """Whether it was replaced; False when it is not what was `found` any more."""
        name = found["metadata"]["name"]
        kept = {key: value for key, value in found.items() if key not in ("data", "stringData")}
        response = self._client.put(self._path(kind, name), json={**kept, **_content(kind, data)})
        if response.status_code in (httpx2.codes.CONFLICT, httpx2.codes.NOT_FOUND):
            return False
        _checked(response, kind, name)
        return True

    def _path(self, kind: Kind, *name: str) -> str:
        return "/".join(["/api/v1/namespaces", self.namespace, kind, *name])


def text_of(kind: Kind, found: Mapping[str, Any], key: str) -> str | None:
    """What an object holds under a key, or None."""
    value = (found.get("data") or {}).get(key)
    return value if value is None or kind == "configmaps" else base64.b64decode(value).decode()


def in_cluster(environment: Mapping[str, str] = os.environ, mount: Path = MOUNT) -> Cluster:
    """The namespace of this pod.

    Raises:
        Refused: this is no pod, or it has no token.
    """
    try:
        token, namespace = ((mount / name).read_text().strip() for name in ("token", "namespace"))
        host, port = environment["KUBERNETES_SERVICE_HOST"], environment["KUBERNETES_SERVICE_PORT"]
        trusted = ssl.create_default_context(cafile=mount / "ca.crt")
        # Authorities of clusters are often made without the extensions that Python asks for since 3.13.
        trusted.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    except (OSError, KeyError) as exc:
        raise Refused(f"This is no pod with a service account's token: {exc}.") from None
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    transport = httpx2.HTTPTransport(verify=trusted, retries=RETRIES)
    headers = {"authorization": f"Bearer {token}"}
    return Cluster(httpx2.Client(base_url=url, headers=headers, transport=transport, timeout=10), namespace)


def _content(kind: Kind, data: Mapping[str, str]) -> dict[str, Any]:
    if kind == "configmaps":
        return {"data": dict(data)}
    return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}}


def _checked(response: httpx2.Response, kind: Kind, name: str) -> dict[str, Any]:
    if not response.is_success:
        # Never the body of what was sent: it is a secret. Kubernetes' own sentence names verb, kind and account.
        said = response.json().get("message", "") if "json" in response.headers.get("content-type", "") else ""
        raise Refused(f"{kind} {name}: {response.status_code} {said}".strip())
    answer: dict[str, Any] = response.json()
    return answer
