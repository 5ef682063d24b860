"""What a gateway knows of keys: read anew, looked for, kept on disk, and believed for so long."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import actions
from gateway.actions import GAP, KeyRing
from gateway.domain.access import KeyNotAccepted, KeysNotCurrent, Trust
from gateway.domain.keys import ApiKey, make_key, read_key
from gateway.domain.requests import Operation
from gateway.reconcile import forget
from gateway.store.snapshots import SnapshotFile
from kit.callers import Role
from kit.db import make_engine
from kit.tables import idempotency_keys
from kit.testing import eventually

from .databases import Relay, relay_to
from .gateways import add_key, add_project

NOW = datetime(2026, 11, 25, tzinfo=UTC)
TRUST = Trust()


class Clocks:
    """Both of them, as a test wants them."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.wall = NOW

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.wall

    def pass_by(self, span: timedelta) -> None:
        self.seconds += span.total_seconds()
        self.wall += span


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
async def key(engine: AsyncEngine) -> ApiKey:
    await add_project(engine, "blue", ada=Role.ADMIN)
    return known(await add_key(engine, lasts=timedelta(days=3650)))


def known(text: str) -> ApiKey:
    found = read_key(text)
    assert found is not None
    return found


def ring_of(engine: AsyncEngine, clocks: Clocks, path: Path | None = None) -> KeyRing:
    file = None if path is None else SnapshotFile(path)
    return KeyRing(engine, TRUST, file, monotonic=clocks.monotonic, now=clocks.now)


async def lost(relay: Relay, engine: AsyncEngine) -> None:
    await relay.cut()
    await engine.dispose()


@pytest.fixture
async def relay(engine: AsyncEngine) -> AsyncIterator[Relay]:
    async with relay_to(engine.url.render_as_string(hide_password=False)) as it:
        yield it


@pytest.fixture
async def far(relay: Relay) -> AsyncIterator[AsyncEngine]:
    """An engine whose database can be cut off."""
    it = make_engine(relay.url)
    yield it
    await it.dispose()


async def test_what_was_never_seen_is_looked_for(engine: AsyncEngine, clocks: Clocks, key: ApiKey) -> None:
    ring = ring_of(engine, clocks)
    assert (ring.known, ring.current) == (False, False)
    assert (await ring.admit(key, Operation.READ)).subject == "ada"
    assert (ring.known, ring.current) == (True, True)


async def test_a_key_that_was_made_a_moment_ago_is_found(engine: AsyncEngine, clocks: Clocks, key: ApiKey) -> None:
    ring = ring_of(engine, clocks)
    await ring.refresh()
    clocks.pass_by(timedelta(seconds=1))
    late = known(await add_key(engine))
    assert (await ring.admit(late, Operation.PREDICT)).key_id == late.id


async def test_guessers_make_nobody_read_the_database_all_day(engine: AsyncEngine, key: ApiKey) -> None:
    ring = KeyRing(engine, TRUST)
    read = 0

    def count(*_: object) -> None:
        nonlocal read
        read += 1

    event.listen(engine.sync_engine, "before_cursor_execute", count)
    began = asyncio.get_running_loop().time()

    async def guess() -> None:
        with pytest.raises(KeyNotAccepted):
            await ring.admit(make_key(), Operation.READ)

    await asyncio.gather(*[guess() for _ in range(100)])
    for _ in range(6):
        await guess()
    event.remove(engine.sync_engine, "before_cursor_execute", count)
    assert read <= 2 + (asyncio.get_running_loop().time() - began) / GAP


@pytest.fixture
def asked(engine: AsyncEngine) -> Iterator[list[str]]:
    """What the database is asked."""
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine.sync_engine, "before_cursor_execute", note)


def readings(asked: list[str]) -> int:
    """How often all keys were read."""
    return sum("digest" in statement and " IN " not in statement for statement in asked)


async def test_strangers_make_nobody_read_all_keys(engine: AsyncEngine, key: ApiKey, asked: list[str]) -> None:
    ring = KeyRing(engine, TRUST)
    await ring.refresh()
    stranger = make_key()
    for guess in (make_key(), stranger, stranger, stranger):
        with pytest.raises(KeyNotAccepted):
            await ring.admit(guess, Operation.READ)
    assert readings(asked) == 1
    assert len(asked) == 2 + 2  # the same one is not looked for again and again


async def test_keys_are_read_anew_only_when_something_has_changed(
    engine: AsyncEngine, clocks: Clocks, key: ApiKey, asked: list[str]
) -> None:
    ring = ring_of(engine, clocks)
    for _ in range(3):
        await ring.refresh()
    assert readings(asked) == 1

    for change in ("update members set role = 'viewer'", "update projects set deleted_at = now()"):
        assert (await ring.admit(key, Operation.READ)).key_id == key.id
        async with engine.begin() as connection:
            await connection.execute(sa.text(change))
        await ring.refresh()
        if "viewer" in change:
            assert (await ring.admit(key, Operation.READ)).role is Role.VIEWER
    with pytest.raises(KeyNotAccepted):
        await ring.admit(key, Operation.READ)
    assert readings(asked) == 3


async def test_a_key_that_was_found_and_revoked_between_two_readings_is_known_as_revoked(
    engine: AsyncEngine, clocks: Clocks, key: ApiKey
) -> None:
    ring = ring_of(engine, clocks)
    await ring.refresh()
    late = known(await add_key(engine))
    assert (await ring.admit(late, Operation.READ)).key_id == late.id
    async with engine.begin() as connection:
        await connection.execute(sa.text("update api_keys set revoked_at = now() where id = :id"), {"id": late.id})
    await ring.refresh()
    with pytest.raises(KeyNotAccepted):
        await ring.admit(late, Operation.READ)
    assert (await ring.admit(key, Operation.READ)).key_id == key.id


async def test_what_is_not_current_is_looked_at_before_it_is_refused(
    engine: AsyncEngine, clocks: Clocks, key: ApiKey
) -> None:
    ring = ring_of(engine, clocks)
    await ring.refresh()
    clocks.pass_by(timedelta(minutes=1))  # as after a stall of this process
    assert (await ring.admit(key, Operation.WRITE)).key_id == key.id
    assert ring.current


async def test_predictions_ask_nobody_while_their_key_is_known(
    relay: Relay, far: AsyncEngine, clocks: Clocks, key: ApiKey
) -> None:
    ring = ring_of(far, clocks)
    await ring.refresh()
    await lost(relay, far)
    clocks.pass_by(timedelta(minutes=14))
    assert (await ring.admit(key, Operation.PREDICT)).key_id == key.id
    with pytest.raises(KeysNotCurrent):
        await ring.admit(key, Operation.READ)
    with pytest.raises(KeysNotCurrent):  # known to be away: not even asked
        await ring.admit(key, Operation.READ)
    clocks.pass_by(timedelta(minutes=2))
    with pytest.raises(KeysNotCurrent):
        await ring.admit(key, Operation.PREDICT)
    await relay.mend()
    clocks.pass_by(timedelta(seconds=2))
    assert (await ring.admit(key, Operation.READ)).key_id == key.id


async def test_a_restart_without_a_database_goes_on_with_what_was_kept(
    relay: Relay, far: AsyncEngine, clocks: Clocks, key: ApiKey, tmp_path: Path
) -> None:
    await ring_of(far, clocks, tmp_path / "keys.json").refresh()
    await lost(relay, far)
    clocks.pass_by(timedelta(minutes=10))
    clocks.seconds = 5.0  # another boot
    ring = ring_of(far, clocks, tmp_path / "keys.json")
    ring.remember()
    assert ring.age == timedelta(minutes=10)
    assert (await ring.admit(key, Operation.PREDICT)).key_id == key.id
    with pytest.raises(KeysNotCurrent):
        await ring.admit(key, Operation.READ)
    clocks.pass_by(timedelta(minutes=6))  # the restart has not made it younger
    with pytest.raises(KeysNotCurrent):
        await ring.admit(key, Operation.PREDICT)


@pytest.mark.parametrize("span", [timedelta(minutes=16), timedelta(days=-1)])
async def test_what_was_kept_too_long_or_in_the_future_is_not_believed(
    engine: AsyncEngine, clocks: Clocks, key: ApiKey, tmp_path: Path, span: timedelta
) -> None:
    await ring_of(engine, clocks, tmp_path / "keys.json").refresh()
    clocks.wall += span
    ring = ring_of(engine, clocks, tmp_path / "keys.json")
    ring.remember()
    assert not ring.known


async def test_without_a_file_nothing_is_remembered(engine: AsyncEngine, clocks: Clocks, tmp_path: Path) -> None:
    for path in (None, tmp_path / "nothing.json"):
        ring = ring_of(engine, clocks, path)
        ring.remember()
        assert not ring.known


async def test_the_file_is_written_at_every_change_and_else_now_and_then(
    engine: AsyncEngine, clocks: Clocks, key: ApiKey, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    ring = ring_of(engine, clocks, path)

    async def seen_at() -> datetime:
        await ring.refresh()
        return datetime.fromisoformat(json.loads(path.read_bytes())["seen_at"])

    assert await seen_at() == NOW
    clocks.pass_by(timedelta(seconds=59))
    assert await seen_at() == NOW
    clocks.pass_by(timedelta(seconds=1))
    assert await seen_at() == NOW + timedelta(seconds=60)
    clocks.pass_by(timedelta(seconds=1))
    await add_key(engine)
    assert await seen_at() == NOW + timedelta(seconds=61)
    assert len(json.loads(path.read_bytes())["grants"]) == 2


async def test_a_full_disk_stops_nobody(engine: AsyncEngine, clocks: Clocks, key: ApiKey, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    ring = ring_of(engine, clocks, tmp_path / "taken" / "keys.json")
    assert (await ring.admit(key, Operation.READ)).key_id == key.id
    assert os.listdir(tmp_path) == ["taken"]


async def test_a_change_is_known_at_once_by_whoever_listens(engine: AsyncEngine, key: ApiKey) -> None:
    ring = KeyRing(engine, TRUST)
    wakeup, stop = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(ring.keep_current(every=3600, wakeup=wakeup, stop=stop))
        await eventually(lambda: ring.known)
        async with engine.begin() as connection:
            await connection.execute(sa.text("update api_keys set revoked_at = now()"))
            await actions.tell_all(connection)
        wakeup.set()

        async def refused() -> bool:
            try:
                await ring.admit(key, Operation.READ)
            except KeyNotAccepted:
                return True
            return False

        await eventually(refused)
        stop.set()


async def test_it_keeps_trying_while_the_database_is_away(relay: Relay, far: AsyncEngine, key: ApiKey) -> None:
    ring = KeyRing(far, TRUST)
    stop = asyncio.Event()
    await relay.cut()
    async with asyncio.TaskGroup() as group:
        group.create_task(ring.keep_current(every=0.05, wakeup=asyncio.Event(), stop=stop))
        with pytest.raises(KeysNotCurrent):
            await ring.admit(key, Operation.READ)
        await relay.mend()
        await eventually(lambda: ring.current)
        stop.set()


async def test_what_has_no_use_any_more_is_forgotten(engine: AsyncEngine, key: ApiKey) -> None:
    await add_key(engine, lasts=timedelta(days=-40))
    values = {"project": "blue", "key": "old", "fingerprint": "", "status": 200, "headers": {}, "body": b""}
    async with engine.begin() as connection:
        await connection.execute(sa.insert(idempotency_keys).values(values))
        await connection.execute(sa.text("update idempotency_keys set created_at = now() - interval '2 days'"))
    stop = asyncio.Event()

    async def counts() -> list[int]:
        async with engine.connect() as connection:
            tables = ("api_keys", "idempotency_keys")
            return [(await connection.execute(sa.text(f"select count(*) from {it}"))).scalar_one() for it in tables]

    assert await counts() == [2, 1]
    async with asyncio.TaskGroup() as group:
        group.create_task(forget(engine, stop=stop))

        async def forgotten() -> bool:
            return await counts() == [1, 0]

        await eventually(forgotten)
        stop.set()
