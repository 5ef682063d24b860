"""Serving as it runs: its application and its loops in this process, without a port."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import httpx2

from kit.app import Service
from kit.testing import KeyFolder, client_of, eventually
from serving.app import create_app, loops
from serving.settings import Settings

LONG = timedelta(seconds=30)


@dataclass(frozen=True)
class Serving:
    """A process, and an editor who talks to it."""

    app: Service
    http: httpx2.AsyncClient
    keys: KeyFolder

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, settings: Settings, keys: KeyFolder, *, reconciles: bool = True) -> AsyncIterator[Self]:
        app = create_app(settings)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group, client_of(app, keys.headers("serving")) as http:
            if reconciles:
                group.create_task(loops(settings, stop))
            try:
                yield cls(app, http, keys)
            finally:
                stop.set()

    def headers(self, **of: Any) -> dict[str, str]:
        """Of another caller."""
        return self.keys.headers("serving", **of)

    async def put(self, name: str, model: str | list[dict[str, Any]], **headers: str) -> httpx2.Response:
        body = {"model": model} if isinstance(model, str) else {"models": model}
        return await self.http.put(f"/v1/deployments/{name}", json=body, headers=headers)

    async def deploy(self, name: str, model: str | list[dict[str, Any]]) -> dict[str, Any]:
        """Put it over whatever is there, and see it ready."""
        there = await self.http.get(f"/v1/deployments/{name}")
        headers = {"if-match": there.headers["etag"]} if there.is_success else {}
        answer = await self.put(name, model, **headers)
        assert answer.is_success, answer.text
        return await self.settled(name)

    async def settled(self, name: str, phase: str = "ready") -> dict[str, Any]:
        found = (await self.http.get(f"/v1/deployments/{name}", params={"wait": "20s"})).raise_for_status().json()
        assert found["status"]["phase"] == phase, found
        return dict(found)

    async def predict(self, name: str, rows: list[Any], **more: Any) -> httpx2.Response:
        return await self.http.post(f"/v1/deployments/{name}/predict", json={"rows": rows, **more})

    async def version(self, name: str, row: dict[str, Any]) -> int:
        """Which one answers."""
        answer = await self.predict(name, [row])
        assert answer.status_code == 200, answer.text
        return int(answer.json()["version"])

    async def answers_with(self, name: str, row: dict[str, Any], version: int) -> None:
        """Wait for a version to take over. No request may fail meanwhile."""

        async def does() -> bool:
            answer = await self.predict(name, [row])
            if answer.status_code != 200:
                raise RuntimeError(answer.text)
            return bool(answer.json()["version"] == version)

        await eventually(does, LONG)

    async def answers_with_patience(self, name: str, row: dict[str, Any], version: int) -> None:
        """Wait for a version to answer, where none has yet."""

        async def does() -> bool:
            answer = await self.predict(name, [row])
            return answer.status_code == 200 and bool(answer.json()["version"] == version)

        await eventually(does, LONG)
