"""What the tests of every service share. Nothing in production imports it."""

# ruff: noqa: ASYNC109 - the time is how long to poll, a look that hangs is the test's own

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, overload

import httpx2
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Receive, Scope, Send

from kit import keys
from kit.app import Service
from kit.callers import Role
from kit.routes import VERBS
from kit.tokens import load_signer

T = TypeVar("T")
SERVICES = ("ingest", "registry", "trainer", "serving", "pipelines", "gateway")

# Of the fixtures in the conftest.py at the root, by their names.
DatabaseUrl = Callable[[str], str]
EngineOf = Callable[[str], Awaitable[AsyncEngine]]


@overload
async def eventually(check: Callable[[], Awaitable[T]], timeout: timedelta = ...) -> T: ...
@overload
async def eventually(check: Callable[[], T], timeout: timedelta = ...) -> T: ...
async def eventually(check: Callable[[], Any], timeout: timedelta = timedelta(seconds=10)) -> Any:
    """What `check` answers once that is true; an AssertionError within the time counts as not yet.

    The only place in all tests that may poll.
    """
    until = time.monotonic() + timeout.total_seconds()
    while True:
        late = time.monotonic() >= until
        try:
            answer = check()
            found = await answer if inspect.isawaitable(answer) else answer
            if found:
                return found
        except AssertionError:
            if late:
                raise
        if late:
            raise AssertionError(f"not within {timeout.total_seconds():g} s: {check}")
        await asyncio.sleep(0.02)


@dataclass(frozen=True)
class KeyFolder:
    """Key pairs of all services, as production has them."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> "KeyFolder":
        keys.init(folder, SERVICES)
        return cls(folder)

    @property
    def public(self) -> Path:
        return self.folder / "public.json"

    def private(self, service: str) -> Path:
        return self.folder / f"{service}.private.json"

    def headers(
        self,
        audience: str,
        *,
        issuer: str = "gateway",
        project: str = "demo",
        role: Role = Role.EDITOR,
        subject: str = "ada",
    ) -> dict[str, str]:
        """What a request to `audience` says of its caller."""
        token = load_signer(self.private(issuer)).mint(audience, project, role, subject)
        return {"authorization": f"Bearer {token}"}


@contextlib.asynccontextmanager
async def client_of(app: Service, headers: dict[str, str] | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an application in this process, its lifespan running.

    Answers arrive whole, however they were sent: what streams needs a real server.
    """
    async with app.api.router.lifespan_context(app.api) as state:

        async def stated(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx2.ASGITransport(app=stated, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service", headers=headers) as client:
            yield client


async def unguarded(app: Service) -> list[str]:
    """The (verb, route) pairs that answer a stranger with anything but 401, beside those that are declared public."""
    found = []
    public = {(method, path) for method, path, access in app.routes if access is not None and access.role is None}
    async with client_of(app) as client:
        for path in sorted({path for _, path, _ in app.routes}):
            concrete = path.replace(":path}", "}").replace("{", "x-").replace("}", "")
            for method in VERBS:
                answer = await client.request(method, concrete)
                if answer.status_code != 401 and (method, path) not in public:
                    found.append(f"{method} {path} → {answer.status_code}")
    return found


def undeclared(app: Service) -> list[str]:
    """The (verb, route) pairs that do not say who may call them."""
    return [f"{method} {path}" for method, path, access in app.routes if access is None]
