"""How many files of a project wait for a version: a bound, so that nobody fills the object store with what is none."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from kit import errors
from registry.store.uploads import UploadStore

SOON = timedelta(seconds=30)


class TooManyUploads(errors.TooMany): ...


class Uploads:
    """Of a process; what the database knows counts for all of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def one_more(self, engine: AsyncEngine, project: str, digest: str) -> AsyncIterator[None]:
        """Held while a file comes. Bytes that are there already are always taken again.

        Raises:
            TooManyUploads: the project has too many that no version names.
        """
        self._under_way[project] += 1
        try:
            async with engine.begin() as connection:
                waiting = await UploadStore(connection).waiting(project, besides=digest, limit=self._most)
            if waiting + self._under_way[project] > self._most:
                detail = f"{waiting} files of the project wait for a version, and {self._most} may at one time."
                raise TooManyUploads(
                    f"{detail} Make versions of them; what none names goes after a day.", retry_after=SOON
                )
            yield
        finally:
            self._under_way[project] -= 1
            if not self._under_way[project]:
                del self._under_way[project]
