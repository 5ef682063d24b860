"""What pipelines ask of the trainer."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from kit import errors
from kit.clients import Principal, ServiceClient
from pipelines.clients.answers import read
from pipelines.clients.ingest import Status
from pipelines.clients.paths import path_of


class Made(BaseModel):
    """The model version that a job became."""

    name: str
    version: int
    digest: str | None = None


class Job(BaseModel):
    """A job, as far as it is read here."""

    id: str
    dataset: str = ""
    dataset_digest: str | None = None
    status: Status
    metrics: dict[str, Any] | None = None
    model: Made | None = None


@dataclass(frozen=True)
class TrainerClient:
    """Jobs."""

    service: ServiceClient

    async def start(self, principal: Principal, spec: dict[str, Any], *, key: str) -> Job:
        """Start a job. With the same key: the one that was started."""
        answer = await self.service.request(principal, "POST", "/v1/jobs", json=spec, idempotency_key=key)
        return read(Job, answer)

    async def job(self, principal: Principal, job_id: str) -> Job:
        answer = await self.service.request(principal, "GET", path_of("jobs", job_id))
        return read(Job, answer)

    async def cancel(self, principal: Principal, job_id: str, *, key: str) -> None:
        """Ask for its end. One that has ended, or is gone, has ended."""
        try:
            await self.service.request(principal, "POST", path_of("jobs", job_id, "cancel"), idempotency_key=key)
        except (errors.Conflict, errors.NotFound):
            return
