"""Files that no version names (yet). The tables are those of kit.blobs; what is asked of them here is only counted."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from kit.tables import blob_links, blobs


class UploadStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def waiting(self, project: str, *, besides: str, limit: int) -> int:
        """How many live blobs of the project nothing links, without the one of that digest; at most `limit`."""
        linked = sa.exists().where(blob_links.c.project == blobs.c.project, blob_links.c.digest == blobs.c.digest)
        waits = sa.and_(blobs.c.project == project, blobs.c.state == "live", blobs.c.digest != besides, ~linked)
        some = sa.select(sa.literal(1)).select_from(blobs).where(waits).limit(limit).subquery()
        return int((await self._connection.execute(sa.select(sa.func.count()).select_from(some))).scalar_one())
