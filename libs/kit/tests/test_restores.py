"""A database on another server than the one that its rows were written on."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import events, migrations
from kit.tables import event_cursors
from kit.tables import events as table

FUTURE = 10**15


async def emit(engine: AsyncEngine, *subjects: str) -> None:
    for subject in subjects:
        async with engine.begin() as connection:
            await events.emit(connection, "demo", "lamp.lit", subject, {})


async def seen(engine: AsyncEngine, after: str = events.START) -> list[str]:
    async with engine.begin() as connection:
        return [event.subject for event in (await events.read(connection, after)).events]


async def cursors(engine: AsyncEngine) -> dict[str, str]:
    async with engine.begin() as connection:
        return {row.source: row.cursor for row in await connection.execute(sa.select(event_cursors))}


async def test_restored_events_are_seen_and_cursors_start_anew(engine: AsyncEngine) -> None:
    await emit(engine, "a", "b")
    async with engine.begin() as connection:
        await connection.execute(sa.update(table).values(xid=FUTURE + table.c.id))
        values = [{"source": "ingest", "cursor": f"{FUTURE}:1"}, {"source": "here", "cursor": "5:1"}]
        await connection.execute(sa.insert(event_cursors), values)
    await emit(engine, "c")
    # So it would go on: the old ones for ever unseen, and who had read them does not see the new one.
    assert await seen(engine) == ["c"]
    assert await seen(engine, f"{FUTURE}:1") == []

    migrations.upgrade("lamps", engine.url.render_as_string(hide_password=False))

    assert await seen(engine) == ["a", "b", "c"]
    assert await cursors(engine) == {"ingest": events.START, "here": "5:1"}


async def test_where_the_rows_were_written_nothing_changes(engine: AsyncEngine) -> None:
    await emit(engine, "a", "b")
    async with engine.begin() as connection:
        feed = await events.read(connection, events.START)
        await connection.execute(sa.insert(event_cursors).values(source="ingest", cursor=feed.cursor))
    migrations.upgrade("lamps", engine.url.render_as_string(hide_password=False))
    assert await seen(engine, feed.events[0].id) == ["b"]
    assert await cursors(engine) == {"ingest": feed.cursor}
