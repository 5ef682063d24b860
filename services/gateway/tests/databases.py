"""A way to a database that can be cut and mended, while everybody else goes on using it."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy.engine import make_url

SOCKET = ".s.PGSQL.5432"


class Relay:
    """A socket that leads to a database server, or nowhere."""

    def __init__(self, url: str, folder: Path) -> None:
        parsed = make_url(url)
        self._target = str(Path(str(parsed.query["host"])) / SOCKET)
        self._path = folder / SOCKET
        self.url = parsed.update_query_dict({"host": str(folder)}).render_as_string(hide_password=False)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.silent = False
        """Connections are taken, and nothing passes."""

    async def mend(self) -> None:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))

    async def cut(self) -> None:
        """End all that goes through it, and take nothing more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._path.unlink(missing_ok=True)
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._target)
        self._open |= {writer, back}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, back))
                group.create_task(self._pump(there, writer))
        finally:
            self._open -= {writer, back}
            for it in (writer, back):
                it.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if self.silent:
                    continue
                target.write(data)
                await target.drain()
        target.close()


@contextlib.asynccontextmanager
async def relay_to(url: str) -> AsyncIterator[Relay]:
    """A relay that lets everything through at first."""
    with tempfile.TemporaryDirectory(prefix="ty-") as folder:  # short: a socket's path is
        relay = Relay(url, Path(folder))
        await relay.mend()
        try:
            yield relay
        finally:
            await relay.cut()
