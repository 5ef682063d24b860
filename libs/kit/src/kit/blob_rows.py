"""Which blobs there are, and who needs them. A row goes live → dying → gone and is then removed.

    live    may be linked; the collection marks it dying when it is old enough and nothing links it
    dying   may not be linked any more; its object is deleted once it has been dying for SETTLE
    gone    its object is deleted; the row stays for SETTLE

Why a fresh upload never loses its bytes to a collection: it must be recorded within FRESH of having been read back,
and from the moment before an object is deleted until SETTLE after, there is a row that refuses to be recorded.
"""

import time
from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import errors
from kit.blob_store import Blob
from kit.db import NOW
from kit.tables import blob_links, blobs

FRESH = timedelta(seconds=60)
SETTLE = timedelta(minutes=3)


class BlobNotFound(errors.NotFound): ...


class BlobCollected(errors.Unavailable): ...


async def record(connection: AsyncConnection, project: str, blob: Blob) -> None:
    """Say that the blob is there. It is kept for the grace of uploads, counted from now, and while it is linked.

    Raises:
        BlobCollected: the same bytes are just being collected, or it took too long to get here; publish them again.
    """
    if time.monotonic() - blob.verified_at > FRESH.total_seconds():
        raise BlobCollected("It took too long to record these bytes; send them again.")
    values = {"project": project, "digest": blob.digest, "size": blob.size}
    statement = (
        pg.insert(blobs)
        .values(values)
        .on_conflict_do_update(
            index_elements=["project", "digest"], set_={"created_at": NOW}, where=blobs.c.state == "live"
        )
        .returning(blobs.c.digest)
    )
    if (await connection.execute(statement)).one_or_none() is None:
        raise BlobCollected("The same bytes are just being collected; send them again later.", retry_after=SETTLE)


async def find(connection: AsyncConnection, project: str, digest: str) -> Blob | None:
    """The live blob of that digest, if there is one."""
    query = sa.select(blobs.c.digest, blobs.c.size).where(_is(project, digest), blobs.c.state == "live")
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Blob(row.digest, row.size)


async def link(connection: AsyncConnection, project: str, digest: str, owner: str) -> None:
    """Keep the blob for as long as `owner` (such as `dataset-version:<uuid>`) links it. Linking twice is linking.

    Raises:
        BlobNotFound: there is no such blob.
        BlobCollected: there was one, and it is just being collected.
    """
    # The lock makes a collection that is choosing wait or skip; the state is checked in the same statement.
    live = sa.select(blobs.c.project, blobs.c.digest, sa.literal(owner)).where(
        _is(project, digest), blobs.c.state == "live"
    )
    statement = (
        pg.insert(blob_links)
        .from_select(["project", "digest", "owner"], live.with_for_update(read=True))
        .on_conflict_do_nothing()
        .returning(blob_links.c.owner)
    )
    if (await connection.execute(statement)).one_or_none() is None:
        await _refuse_unless_live(connection, project, digest)


async def _refuse_unless_live(connection: AsyncConnection, project: str, digest: str) -> None:
    query = sa.select(blobs.c.state).where(_is(project, digest))
    state = (await connection.execute(query)).scalar_one_or_none()
    if state is None:
        raise BlobNotFound(f"There are no bytes with the digest {digest[:100]}.")
    if state != "live":
        raise BlobCollected("These bytes are just being collected; send them again later.", retry_after=SETTLE)


async def unlink(connection: AsyncConnection, project: str, owner: str) -> None:
    """`owner` needs none of its blobs any more."""
    await connection.execute(sa.delete(blob_links).where(blob_links.c.project == project, blob_links.c.owner == owner))


async def condemn(connection: AsyncConnection, grace: timedelta, limit: int) -> int:
    """Mark blobs dying that nothing links and that are older than `grace`. Says how many."""
    unlinked = ~sa.exists().where(blob_links.c.project == blobs.c.project, blob_links.c.digest == blobs.c.digest)
    old = sa.and_(blobs.c.state == "live", blobs.c.created_at < NOW - grace)
    choose = (
        sa.select(blobs.c.project, blobs.c.digest)
        .where(old, unlinked)
        .limit(limit)
        .with_for_update(skip_locked=True, of=blobs)
    )
    chosen = [tuple(row) for row in await connection.execute(choose)]
    # A second statement, so a second snapshot: it sees the links that were made before the rows were locked.
    these = sa.tuple_(blobs.c.project, blobs.c.digest).in_(chosen)
    marked = await connection.execute(sa.update(blobs).where(these, unlinked).values(state="dying", dying_since=NOW))
    return marked.rowcount


async def adopt(connection: AsyncConnection, orphans: Sequence[tuple[str, str, int]]) -> int:
    """Give objects without a row one that is dying: (project, digest, size). Says how many had none."""
    rows = [
        {"project": project, "digest": digest, "size": size, "state": "dying", "dying_since": NOW}
        for project, digest, size in orphans
    ]
    statement = pg.insert(blobs).values(rows).on_conflict_do_nothing().returning(blobs.c.digest)
    return len((await connection.execute(statement)).all())


async def dying(connection: AsyncConnection, settle: timedelta, limit: int) -> list[tuple[str, str]]:
    """The blobs whose objects may be deleted now."""
    query = (
        sa.select(blobs.c.project, blobs.c.digest)
        .where(blobs.c.state == "dying", blobs.c.dying_since <= NOW - settle)
        .limit(limit)
    )
    return [(row.project, row.digest) for row in await connection.execute(query)]


async def bury(connection: AsyncConnection, project: str, digest: str) -> None:
    """The object is deleted."""
    await connection.execute(
        sa.update(blobs).where(_is(project, digest), blobs.c.state == "dying").values(state="gone", dying_since=NOW)
    )


async def forget(connection: AsyncConnection, settle: timedelta) -> int:
    """Remove the rows of objects that were deleted long enough ago. Says how many."""
    gone = sa.and_(blobs.c.state == "gone", blobs.c.dying_since <= NOW - settle)
    return (await connection.execute(sa.delete(blobs).where(gone))).rowcount


def _is(project: str, digest: str) -> sa.ColumnElement[bool]:
    return sa.and_(blobs.c.project == project, blobs.c.digest == digest)
