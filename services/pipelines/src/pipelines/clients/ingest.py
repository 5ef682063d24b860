"""What pipelines ask of ingest."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from kit import errors
from kit.clients import Principal, ServiceClient
from pipelines.clients.answers import read
from pipelines.clients.changing import put
from pipelines.clients.paths import path_of


class Status(BaseModel):
    """Of anything that takes time."""

    phase: str
    reason: str | None = None
    message: str | None = None
    observed_generation: int | None = None


class Dataset(BaseModel):
    name: str
    settings: dict[str, Any]


class Version(BaseModel):
    """A dataset version, as far as it is read here."""

    dataset: str
    version: int
    digest: str | None = None
    status: Status
    rows: int | None = None
    rejected: int | None = None
    rows_in: int | None = None
    splits: dict[str, int] | None = None
    settings: dict[str, Any] = {}

    @property
    def reference(self) -> str:
        """As jobs name it."""
        return f"{self.dataset}@{self.version}"


@dataclass(frozen=True)
class IngestClient:
    """Datasets and their versions."""

    service: ServiceClient

    async def dataset(self, principal: Principal, name: str) -> Dataset | None:
        """The dataset, if there is one."""
        try:
            answer = await self.service.request(principal, "GET", path_of("datasets", name))
        except errors.NotFound:
            return None
        return read(Dataset, answer)

    async def put_dataset(self, principal: Principal, name: str, settings: dict[str, Any]) -> Dataset:
        """Make it, or give it these settings. The same ones change nothing.

        Raises:
            errors.PreconditionFailed: somebody else changed it at the same moment.
        """
        answer = await put(self.service, principal, path_of("datasets", name), {"settings": settings})
        return read(Dataset, answer)

    async def make_version(self, principal: Principal, dataset: str, source: dict[str, Any], *, key: str) -> Version:
        """A version from an upload; the one that is there, if these bytes and settings have made one."""
        answer = await self.service.request(
            principal, "POST", path_of("datasets", dataset, "versions"), json=source, idempotency_key=key
        )
        return read(Version, answer)

    async def version(self, principal: Principal, dataset: str, reference: str | int) -> Version:
        """One version, by number, digest or as `latest`."""
        answer = await self.service.request(principal, "GET", path_of("datasets", dataset, "versions", reference))
        return read(Version, answer)
