"""What the trainer asks of the registry: to take a model's files, and to make a version of them."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
from pydantic import BaseModel

from kit.clients import Principal, ServiceClient

UPLOAD = httpx2.Timeout(120.0, connect=2.0)


class _Version(BaseModel):
    model: str
    version: int
    digest: str


class RegistryClient:
    """The registry, as the trainer needs it. Every call raises errors.Unavailable when it does not answer."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def put_blob(self, principal: Principal, digest: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        """Hand over a file. What is there already is there.

        Raises:
            errors.Invalid: the bytes are not those of the digest.
        """
        path = f"/internal/v1/blobs/{digest}"
        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        await self._service.request(principal, "PUT", path, content=chunks, headers=headers, patience=UPLOAD)

    async def put_version(self, principal: Principal, model: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """The model version of this manifest: a new one, or the one that is there. `{name, version, digest}`.

        Raises:
            errors.Error: the registry does not take it.
        """
        path = f"/internal/v1/models/{model}/versions"
        response = await self._service.request(principal, "PUT", path, json=manifest)
        found = _Version.model_validate_json(response.content)
        return {"name": found.model, "version": found.version, "digest": found.digest}
