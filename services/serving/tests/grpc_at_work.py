"""A client of the inference protocol over gRPC, made of the messages alone."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Self

import grpc
import grpc.aio

from serving.grpc.schema import METHODS, SERVICE


@dataclass(frozen=True)
class Caller:
    """Who asks, with an internal token."""

    channel: Any
    headers: dict[str, str]
    address: str

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, port: int, headers: dict[str, str]) -> AsyncIterator[Self]:
        options = (("grpc.enable_http_proxy", 0),)
        address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            yield cls(channel, headers, address)

    async def ask(
        self,
        name: str,
        message: Any = None,
        *,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        within: float | None = 20,
        compression: Any = None,
    ) -> Any:
        """The answer's message. The request's may be given as bytes."""
        given, answered = METHODS[name]
        content = message if isinstance(message, bytes) else (message or given()).SerializeToString()
        call = self.channel.unary_unary(f"/{SERVICE}/{name}", response_deserializer=answered.FromString)
        said = tuple(self.headers.items()) if metadata is None else tuple(metadata)
        return await call(content, metadata=said, timeout=within, compression=compression)

    async def refused(self, name: str, message: Any = None, **more: Any) -> grpc.aio.AioRpcError:
        """How a call ends that is not answered."""
        try:
            answer = await self.ask(name, message, **more)
        except grpc.aio.AioRpcError as exc:
            return exc
        raise AssertionError(answer)
