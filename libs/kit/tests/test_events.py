"""A feed loses nothing and doubles nothing: not a late commit, not with two followers, not with a crash between."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import db, errors, events
from kit.events import START, Event, Feed
from kit.ids import uuid7
from kit.tables import event_cursors
from kit.testing import DatabaseUrl, KeyFolder, eventually

from .lamps.store.tables import lamps


async def emit(engine: AsyncEngine, *subjects: str) -> None:
    for subject in subjects:
        async with engine.begin() as connection:
            await events.emit(connection, "demo", "lamp.made", subject, {"name": subject})


async def read(engine: AsyncEngine, after: str = START, limit: int = 100) -> Feed:
    async with engine.begin() as connection:
        return await events.read(connection, after, limit=limit)


def subjects(feed: Feed) -> list[str]:
    return [event.subject for event in feed.events]


async def test_events_are_read_in_order_and_from_a_cursor_on(engine: AsyncEngine) -> None:
    await emit(engine, "a", "b", "c")
    first = await read(engine, limit=2)
    assert subjects(first) == ["a", "b"]
    assert (first.events[0].project, first.events[0].kind, first.events[0].data) == ("demo", "lamp.made", {"name": "a"})
    rest = await read(engine, first.cursor)
    assert subjects(rest) == ["c"]
    assert await read(engine, rest.cursor) == Feed(events=[], cursor=rest.cursor)


async def test_a_commit_that_comes_late_is_not_missed(engine: AsyncEngine) -> None:
    async with contextlib.AsyncExitStack() as stack:
        early = await stack.enter_async_context(engine.begin())
        await events.emit(early, "demo", "lamp.made", "early", {})
        async with engine.begin() as late:
            await events.emit(late, "demo", "lamp.made", "late", {})
        # "late" has the higher number and is committed, but reading it now would pass "early" by.
        seen = await read(engine)
        assert subjects(seen) == []
    assert subjects(await read(engine, seen.cursor)) == ["early", "late"]


async def test_events_of_one_transaction_that_wrote_in_turns_with_another_stay_together(engine: AsyncEngine) -> None:
    async with engine.begin() as one, engine.begin() as other:
        await events.emit(one, "demo", "k", "one.1", {})
        await events.emit(other, "demo", "k", "other.1", {})
        await events.emit(one, "demo", "k", "one.2", {})
    half = await read(engine, limit=2)
    assert subjects(half) == ["one.1", "one.2"]
    assert subjects(await read(engine, half.cursor)) == ["other.1"]


async def test_what_is_rolled_back_never_happened(engine: AsyncEngine) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with engine.begin() as connection:
            await events.emit(connection, "demo", "lamp.made", "ghost", {})
            raise ZeroDivisionError
    await emit(engine, "real")
    assert subjects(await read(engine)) == ["real"]


@pytest.mark.parametrize("cursor", ["", "1", "a:b", "1:", "-1:2", "1:2:3", "1:" + "9" * 19, "\u0663:1"])
async def test_a_cursor_that_no_feed_gave_is_refused(client: httpx2.AsyncClient, cursor: str) -> None:
    answer = await client.get("/internal/v1/events", params={"after": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "cursor-invalid")


async def test_the_feed_is_served_to_services(client: httpx2.AsyncClient, key_folder: KeyFolder) -> None:
    await client.post("/v1/lamps", json={"name": "red"})
    feed = (await client.get("/internal/v1/events")).json()
    assert [event["subject"] for event in feed["events"]] == ["red"]
    at_once = await client.get("/internal/v1/events", params={"after": feed["cursor"]})
    assert at_once.json() == {"events": [], "cursor": feed["cursor"]}


async def test_a_reader_may_wait_for_what_comes(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    waiting = asyncio.create_task(client.get("/internal/v1/events", params={"wait": "20s"}))
    await emit(engine, "red")
    assert [event["subject"] for event in (await waiting).json()["events"]] == ["red"]


async def test_old_events_are_forgotten(engine: AsyncEngine) -> None:
    await emit(engine, "a")
    assert await events.prune(engine, timedelta(days=7)) == 0
    assert await events.prune(engine, timedelta(0)) == 1
    assert subjects(await read(engine)) == []


async def test_all_old_events_are_forgotten_however_many(engine: AsyncEngine) -> None:
    for subject in "abcd":
        await emit(engine, subject)
    assert await events.prune(engine, timedelta(0), limit=2) == 4
    assert subjects(await read(engine)) == []


async def light(connection: AsyncConnection, seen: Sequence[Event]) -> None:
    """The effect: a lamp for every event. A second one of the same name is refused by the table."""
    rows = [{"project": event.project, "id": uuid7(), "name": event.subject} for event in seen]
    await connection.execute(sa.insert(lamps), rows)


async def names(engine: AsyncEngine) -> list[str]:
    async with engine.begin() as connection:
        return sorted((await connection.execute(sa.select(lamps.c.name))).scalars())


class Follower:
    """One replica that follows the feed, with an engine of its own."""

    def __init__(self, url: str) -> None:
        self.engine = db.make_engine(url)
        self.stop = asyncio.Event()
        self.fetches = 0
        self.applied = 0
        self.failures: list[Exception] = []

    async def fetch(self, after: str) -> Feed:
        self.fetches += 1
        if self.failures:
            raise self.failures.pop()
        return await read(self.engine, after, limit=3)

    async def apply(self, connection: AsyncConnection, seen: Sequence[Event]) -> None:
        await light(connection, seen)
        self.applied += len(seen)

    async def once(self) -> None:
        """Follow until there is nothing more."""
        await events._follow_once(self.engine, "lamps", self.fetch, self.apply)

    def start(self, *, apply: events.Apply | None = None, fetch: events.Fetch | None = None) -> "asyncio.Task[None]":
        following = events.follow(self.engine, "lamps", fetch or self.fetch, apply or self.apply, stop=self.stop)
        return asyncio.create_task(following)


@contextlib.asynccontextmanager
async def followers(url: str, count: int) -> AsyncIterator[list[Follower]]:
    made = [Follower(url) for _ in range(count)]
    yield made
    for follower in made:
        follower.stop.set()
        await follower.engine.dispose()


async def test_two_followers_apply_every_event_once(engine: AsyncEngine, database_url: DatabaseUrl) -> None:
    wanted = [f"lamp-{number:02}" for number in range(30)]
    async with followers(database_url("lamps"), 2) as (one, other):
        tasks = [one.start(), other.start()]
        await emit(engine, *wanted)
        await eventually(lambda: _are(engine, wanted))
        one.stop.set()
        other.stop.set()
        await asyncio.gather(*tasks)
    assert one.applied + other.applied >= 30
    assert await names(engine) == wanted


async def _are(engine: AsyncEngine, wanted: list[str]) -> bool:
    return await names(engine) == wanted


async def test_a_crash_between_the_effect_and_its_commit_doubles_nothing(
    engine: AsyncEngine, database_url: DatabaseUrl
) -> None:
    """The first attempt dies with its effect made and not committed; another follower does it again."""

    async def die(connection: AsyncConnection, seen: Sequence[Event]) -> None:
        await light(connection, seen)
        raise ZeroDivisionError

    await emit(engine, "a", "b")
    async with followers(database_url("lamps"), 2) as (one, other):
        dying = one.start(apply=die)
        await eventually(lambda: one.fetches > 0)
        assert await names(engine) == []
        living = other.start()
        await eventually(lambda: _are(engine, ["a", "b"]))
        one.stop.set()
        other.stop.set()
        await asyncio.gather(dying, living)
    assert other.applied == 2


async def test_a_follower_that_comes_late_with_what_another_applied_drops_it(
    engine: AsyncEngine, database_url: DatabaseUrl
) -> None:
    await emit(engine, "a")
    stale = await read(engine)
    async with followers(database_url("lamps"), 2) as (one, other):

        async def late(after: str) -> Feed:
            if one.fetches:
                return await one.fetch(after)
            one.fetches += 1
            await other.once()
            return stale

        task = one.start(fetch=late)
        await eventually(lambda: one.fetches > 1)
        one.stop.set()
        await task
    assert (one.applied, other.applied) == (0, 1)
    assert await names(engine) == ["a"]


@pytest.mark.parametrize("failure", [errors.Unavailable("The service lamps is not answering."), ZeroDivisionError()])
async def test_what_fails_is_tried_again(engine: AsyncEngine, database_url: DatabaseUrl, failure: Exception) -> None:
    await emit(engine, "a")
    async with followers(database_url("lamps"), 1) as (one,):
        one.failures.append(failure)
        task = one.start()
        await eventually(lambda: _are(engine, ["a"]))
        one.stop.set()
        await task
    assert one.fetches >= 2


async def test_a_long_poll_does_not_hold_up_the_end(engine: AsyncEngine, database_url: DatabaseUrl) -> None:
    asked = asyncio.Event()

    async def never(after: str) -> Feed:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with followers(database_url("lamps"), 1) as (one,):
        task = one.start(fetch=never)
        await asked.wait()
        one.stop.set()
        await asyncio.wait_for(task, 5)


async def test_a_follower_that_is_cancelled_leaves_nothing_behind(
    engine: AsyncEngine, database_url: DatabaseUrl
) -> None:
    async with followers(database_url("lamps"), 1) as (one,):
        before = asyncio.all_tasks()
        task = one.start()
        await eventually(lambda: one.fetches > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before


async def test_the_cursor_is_kept_in_the_transaction_of_the_effect(
    engine: AsyncEngine, database_url: DatabaseUrl
) -> None:
    await emit(engine, "a")
    async with followers(database_url("lamps"), 1) as (one,):
        await one.once()
    async with engine.begin() as connection:
        row = (await connection.execute(sa.select(event_cursors))).one()
    assert (row.source, row.cursor) == ("lamps", (await read(engine)).cursor)
