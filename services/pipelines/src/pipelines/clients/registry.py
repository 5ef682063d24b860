"""What pipelines ask of the registry."""

from dataclasses import dataclass

from pydantic import BaseModel

from kit import errors
from kit.clients import Principal, ServiceClient
from pipelines.clients.answers import etag_of, read
from pipelines.clients.paths import path_of


class ModelVersion(BaseModel):
    """A model version, as far as it is read here."""

    model: str
    version: int
    digest: str


class _Pointing(BaseModel):
    version: int


@dataclass(frozen=True)
class Alias:
    """Where an alias points, and the state of it that was seen."""

    version: int
    etag: str


@dataclass(frozen=True)
class RegistryClient:
    """Model versions and aliases."""

    service: ServiceClient

    async def version(self, principal: Principal, model: str, reference: str | int) -> ModelVersion:
        """One version, by number, alias or digest."""
        answer = await self.service.request(principal, "GET", path_of("models", model, "versions", reference))
        return read(ModelVersion, answer)

    async def alias(self, principal: Principal, model: str, alias: str) -> Alias | None:
        """Where the alias points, if there is one."""
        try:
            answer = await self.service.request(principal, "GET", path_of("models", model, "aliases", alias))
        except errors.NotFound:
            return None
        return Alias(read(_Pointing, answer).version, etag_of(answer))

    async def move(self, principal: Principal, model: str, alias: str, version: int, seen: Alias | None) -> None:
        """Point the alias at a version, if it still is as it was seen.

        Raises:
            errors.PreconditionFailed: somebody else moved it at the same moment.
        """
        headers = {"if-none-match": "*"} if seen is None else {"if-match": seen.etag}
        path = path_of("models", model, "aliases", alias)
        await self.service.request(principal, "PUT", path, json={"version": version}, headers=headers)
