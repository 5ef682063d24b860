"""What is asked of a service, and what it answers, whichever client carries it."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from gateway.domain.headers import Headers
from gateway.domain.requests import SAFE

Body = Callable[[], AsyncIterator[bytes]]


class Outgoing:
    """One request to a service."""

    def __init__(
        self,
        service: str,
        method: str,
        target: str,
        headers: Headers,
        body: Body | bytes | None = None,
        *,
        changes_nothing: bool = False,
        has_key: bool = False,
    ) -> None:
        """`target` is the path with its query, as it came: encoded, and never decoded and encoded again.

        One that changes nothing may be asked of another copy when the first says that it cannot. One that has an
        `Idempotency-Key` is done once, however often it is sent.
        """
        self.service = service
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.changes_nothing = changes_nothing
        self.repeatable = changes_nothing or has_key or method in SAFE
        self.begun = False
        """Whether the body was asked for: it is there once."""
        self.spoiled = False
        """Whether it was the client who failed: that says nothing of the service."""

    @property
    def path(self) -> str:
        """The target without its query, which may hold what is nobody else's business."""
        return self.target.partition("?")[0]

    def content(self) -> AsyncIterator[bytes] | bytes | None:
        return self._read(self.body) if callable(self.body) else self.body

    async def _read(self, body: Body) -> AsyncIterator[bytes]:
        self.begun = True
        try:
            async for part in body():
                yield part
        except BaseException:
            self.spoiled = True
            raise


class Answer(Protocol):
    """The answer of a service, from its head on."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    @property
    def length(self) -> int | None:
        """What it says of its length."""

    async def read(self) -> bytes:
        """All of its body that is left. Raises aiohttp.ClientError when it breaks off; `readany` too."""

    async def readany(self) -> bytes:
        """What there is of the body, as soon as there is something; nothing at its end."""

    async def release(self) -> None:
        """Nobody reads any more of it."""
