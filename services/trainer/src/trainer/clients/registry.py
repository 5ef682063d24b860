"""What the trainer asks of the registry: to take a model's files, and to make a version of them."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
from pydantic import BaseModel

from kit import errors
from kit.blobs import BlobStore
from kit.clients import Principal, ServiceClient

# A neighbour that is away, busy, or does not know our key yet: none of this says anything about what it was asked.
PASSING = (errors.Unavailable, errors.TooMany, errors.Unauthenticated)
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

    async def make_version(
        self, principal: Principal, model: str, manifest: dict[str, Any], store: BlobStore
    ) -> dict[str, Any]:
        """Hand over the files of the manifest, which are in `store`, and make the version. Twice, it is the same one.

        Raises:
            errors.Error: the registry does not take it; see `is_passing`.
        """
        for file in manifest["formats"]:
            await self.put_blob(
                principal, file["digest"], file["size"], store.stream(principal.project, file["digest"])
            )
        return await self.put_version(principal, model, manifest)


def is_passing(refused: errors.Error) -> bool:
    """Whether the same may be taken later: nothing is wrong with it."""
    # It may be the registry's bytes that are damaged, and not those that we have: they are sent again then.
    theirs = isinstance(refused, errors.Corrupt) and "upstream_code" in refused.extra
    return theirs or isinstance(refused, PASSING)
