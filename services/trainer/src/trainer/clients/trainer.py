"""What a runner asks of the trainer: for work, and to hear what became of it."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2

from kit import tracing
from kit.clients import SYSTEM, Principal, ServiceClient
from kit.roles import Role
from trainer.domain.attempts import OutputFile
from trainer.domain.grants import Grant

UPLOAD = httpx2.Timeout(120.0, connect=2.0)
CHUNK = 1 << 20


class TrainerClient:
    """The trainer, as a runner needs it.

    Every call raises errors.Unavailable when it does not answer; those about an attempt raise errors.NotFound or
    errors.Conflict when the runner has lost it.
    """

    def __init__(self, service: ServiceClient, host: str) -> None:
        self._service = service
        self._host = host

    async def lease(self, slots: int, holding: Collection[str], *, wait: timedelta) -> Sequence[Grant]:
        """What this host is to do: at most so many new attempts, and what it was given and does not hold."""
        with tracing.quietly():
            response = await self._service.request(
                self._principal(SYSTEM),
                "POST",
                "/internal/v1/leases",
                json={"host": self._host, "slots": slots, "holding": sorted(holding)},
                params={"wait": f"{int(wait.total_seconds())}s"},
                patience=httpx2.Timeout(wait.total_seconds() + 10, connect=2.0),
            )
        return [Grant.from_json(item) for item in response.json()["attempts"]]

    async def beat(self, grant: Grant) -> bool:
        """Say that the attempt is worked on. True: it is to stop."""
        response = await self._post(grant, "heartbeat", {})
        return bool(response.json()["stop"])

    async def lines(self, grant: Grant, entries: Sequence[dict[str, Any]]) -> None:
        """Lines for the job's log."""
        await self._post(grant, "lines", {"entries": list(entries)})

    async def put_output(self, grant: Grant, file: OutputFile, path: Path) -> None:
        """Hand over a file."""
        await self._service.request(
            self._principal(grant.project),
            "PUT",
            f"/internal/v1/leases/{grant.attempt}/outputs/{file.digest}",
            content=_chunks_of(path),
            params={"fence": str(grant.fence)},
            headers={"content-length": str(file.size), "content-type": "application/octet-stream"},
            patience=UPLOAD,
        )

    async def finish(
        self,
        grant: Grant,
        *,
        exit_code: int | None,
        result: dict[str, Any] | None,
        failure: dict[str, str] | None,
    ) -> None:
        """Say how the attempt ended."""
        await self._post(grant, "finish", {"exit_code": exit_code, "result": result, "failure": failure})

    async def _post(self, grant: Grant, verb: str, body: dict[str, Any]) -> httpx2.Response:
        path = f"/internal/v1/leases/{grant.attempt}/{verb}"
        principal = self._principal(grant.project)
        return await self._service.request(principal, "POST", path, json={"fence": grant.fence} | body)

    def _principal(self, project: str) -> Principal:
        return Principal(project, Role.VIEWER, f"runner:{self._host}")


async def _chunks_of(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
