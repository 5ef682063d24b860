"""What pipelines ask of serving."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from kit.clients import Principal, ServiceClient
from pipelines.clients.answers import read
from pipelines.clients.changing import put
from pipelines.clients.ingest import Status
from pipelines.clients.paths import path_of


class Target(BaseModel):
    model: str
    version: int


class Revision(BaseModel):
    id: str | int
    targets: list[Target] = []


class Deployment(BaseModel):
    """A deployment, as far as it is read here."""

    name: str
    models: list[dict[str, Any]] = []
    generation: int
    status: Status
    revision: Revision | None = None

    @property
    def serves(self) -> list[str]:
        """The model versions that answer now."""
        targets = self.revision.targets if self.revision else []
        return [f"{target.model}@{target.version}" for target in targets]

    @property
    def is_settled(self) -> bool:
        """Whether its phase is an answer to what was asked for last."""
        return self.status.observed_generation in (None, self.generation)


@dataclass(frozen=True)
class ServingClient:
    """Deployments."""

    service: ServiceClient

    async def deployment(self, principal: Principal, name: str) -> Deployment:
        answer = await self.service.request(principal, "GET", path_of("deployments", name))
        return read(Deployment, answer)

    async def put(self, principal: Principal, name: str, body: dict[str, Any]) -> Deployment:
        """Make it, or have it serve this. The same changes nothing.

        Raises:
            errors.PreconditionFailed: somebody else changed it at the same moment.
        """
        answer = await put(self.service, principal, path_of("deployments", name), body)
        return read(Deployment, answer)
