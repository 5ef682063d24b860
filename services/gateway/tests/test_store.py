"""Projects, members and keys in the database, and the migrations both ways."""

import asyncio
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.domain.access import Grant, Scope, Snapshot
from gateway.domain.keys import ApiKey, make_key, read_key
from gateway.domain.projects import KeyNotFound, LastAdmin, MemberNotFound, ProjectExists, ProjectNotFound
from gateway.store.keys import KeyStore
from gateway.store.projects import ProjectStore
from gateway.store.snapshots import SnapshotFile, write_private
from gateway.store.tables import api_keys
from kit import migrations
from kit.callers import Caller, Role

from .gateways import add_key, add_project

NOW = datetime(2026, 11, 25, tzinfo=UTC)
ADA = Caller("blue", Role.ADMIN, "ada", "gateway")


def read(text: str) -> ApiKey:
    key = read_key(text)
    assert key is not None
    return key


async def snapshot_of(engine: AsyncEngine) -> Snapshot:
    async with engine.connect() as connection:
        return await KeyStore(connection).snapshot()


async def test_a_project_is_made_once_and_its_name_never_again(engine: AsyncEngine) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN)
    with pytest.raises(ProjectExists):
        await add_project(engine, "blue")
    async with engine.begin() as connection:
        await ProjectStore(connection).delete("blue")
        assert await ProjectStore(connection).find("blue") is None
        with pytest.raises(ProjectNotFound):
            await ProjectStore(connection).delete("blue")
    with pytest.raises(ProjectExists):
        await add_project(engine, "blue")


async def test_a_project_is_seen_by_its_own_and_by_admins_of_its_maker(engine: AsyncEngine) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN)
    await add_project(engine, "child", made_by="blue", ada=Role.ADMIN)
    await add_project(engine, "green", ada=Role.ADMIN)
    async with engine.begin() as connection:
        store = ProjectStore(connection)
        assert [it.name for it in await store.page(ADA, after=None, limit=9)] == ["blue", "child"]
        assert [it.name for it in await store.page(ADA, after="blue", limit=9)] == ["child"]
        assert [it.name for it in await store.page(ADA, after=None, limit=1)] == ["blue"]
        viewer = Caller("blue", Role.VIEWER, "vic", "gateway")
        assert [it.name for it in await store.page(viewer, after=None, limit=9)] == ["blue"]
        assert (await store.get("child", ADA)).made_by == "blue"
        for name, caller in (("child", viewer), ("green", ADA), ("nowhere", ADA)):
            with pytest.raises(ProjectNotFound):
                await store.get(name, caller)


async def test_members_come_and_go_with_their_keys(engine: AsyncEngine) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN, eve=Role.EDITOR)
    await add_project(engine, "green", eve=Role.ADMIN)
    gone, kept = await add_key(engine, "blue", "eve", Role.VIEWER), await add_key(engine, "green", "eve", Role.VIEWER)
    async with engine.begin() as connection:
        store = ProjectStore(connection)
        assert [it.subject for it in await store.members("blue")] == ["ada", "eve"]
        assert [it.subject for it in await store.members("blue", after="ada", limit=1)] == ["eve"]
        assert (await store.member("blue", "eve")).role is Role.EDITOR
        assert await store.find_member("blue", "nobody", lock=True) is None
        await store.delete_member("blue", "eve")
        for act in (store.delete_member, store.member):
            with pytest.raises(MemberNotFound):
                await act("blue", "eve")
        with pytest.raises(ProjectNotFound):
            await store.put_member("nowhere", "eve", Role.VIEWER)

    assert set((await snapshot_of(engine)).grants) == {read(kept).id}
    assert read(gone).id not in (await snapshot_of(engine)).grants


async def test_two_admins_who_leave_at_once_do_not_both_succeed(engine: AsyncEngine) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN, eve=Role.ADMIN)

    async def leave(subject: str) -> str:
        async with engine.begin() as connection:
            await ProjectStore(connection).delete_member("blue", subject)
        return subject

    outcomes = await asyncio.gather(leave("ada"), leave("eve"), return_exceptions=True)

    assert sorted(type(it).__name__ for it in outcomes) == ["LastAdmin", "str"]
    assert any(isinstance(it, LastAdmin) for it in outcomes)


async def test_a_snapshot_holds_what_opens_something(engine: AsyncEngine) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN, eve=Role.EDITOR)
    text = await add_key(engine, "blue", "ada", Role.EDITOR, Scope.READ)
    revoked, short = await add_key(engine), await add_key(engine, lasts=timedelta(seconds=-1))
    async with engine.begin() as connection:
        assert await KeyStore(connection).revoke("blue", read(revoked).id)
        # A member who is less by now than when the key was made.
        await ProjectStore(connection).put_member("blue", "eve", Role.ADMIN)
        await ProjectStore(connection).put_member("blue", "ada", Role.VIEWER)
    grants = (await snapshot_of(engine)).grants

    key = read(text)
    assert grants == {
        key.id: Grant(
            key_id=key.id,
            project="blue",
            subject="ada",
            key_role=Role.EDITOR,
            member_role=Role.VIEWER,
            scopes=frozenset({Scope.READ}),
            digest=key.digest,
            expires_at=grants[key.id].expires_at,
        )
    }
    assert read(short).id not in grants


async def test_a_deleted_project_opens_nothing(engine: AsyncEngine) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN)
    await add_key(engine)
    async with engine.begin() as connection:
        await ProjectStore(connection).delete("blue")

    assert (await snapshot_of(engine)).grants == {}


async def test_keys_are_listed_oldest_first_with_the_revoked(engine: AsyncEngine) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN)
    await add_project(engine, "green", ada=Role.ADMIN)
    ids = [read(await add_key(engine, name=f"key {number}")).id for number in range(3)]
    other = read(await add_key(engine, "green")).id
    async with engine.begin() as connection:
        store = KeyStore(connection)
        assert await store.revoke("blue", ids[1])
        assert not await store.revoke("blue", ids[1])
        for act in (store.revoke, store.get):
            with pytest.raises(KeyNotFound):
                await act("blue", other)
        page = await store.page("blue", after=None, limit=2)
        assert [it.id for it in page] == ids[:2]
        assert [it.revoked_at is None for it in page] == [True, False]
        rest = await store.page("blue", after=(page[-1].created_at, page[-1].id), limit=2)
        assert [it.id for it in rest] == ids[2:]
        assert (await store.get("blue", ids[0])).name == "key 0"
        assert await store.live_count("blue") == 2
        await store.revoke_named("blue", "key 0")
        assert await store.live_count("blue") == 1


async def test_dead_keys_are_forgotten_after_a_while(engine: AsyncEngine) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN)
    live, revoked = await add_key(engine), await add_key(engine)
    await add_key(engine, lasts=timedelta(days=-31))
    async with engine.begin() as connection:
        store = KeyStore(connection)
        await store.revoke("blue", read(revoked).id)
        assert await store.delete_dead(timedelta(days=30)) == 1
        assert [it.id for it in await store.page("blue", after=None, limit=9)] == [read(live).id, read(revoked).id]
        assert await store.delete_dead(timedelta(0)) == 1


async def test_no_key_itself_is_in_the_database(engine: AsyncEngine) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN)
    key = read(await add_key(engine))
    async with engine.begin() as connection:
        rows = (await connection.execute(sa.select(sa.cast(api_keys.table_valued(), sa.Text)))).scalars().all()

    assert len(rows) == 1
    assert key.secret not in rows[0]
    assert key.digest.hex() in rows[0]


@pytest.mark.parametrize("values", [{"role": "root"}, {"digest": b"short"}])
async def test_the_tables_refuse_what_cannot_be(engine: AsyncEngine, values: dict[str, object]) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN)
    key = make_key()
    row = {"id": key.id, "project": "blue", "name": "a", "subject": "ada", "role": "admin", "scopes": ["read"]}
    with pytest.raises(IntegrityError):
        async with engine.begin() as connection:
            await connection.execute(sa.insert(api_keys).values({**row, "digest": key.digest, **values}))


def test_migrations_go_up_and_down(empty_database_url: str) -> None:
    config = migrations.config("gateway", empty_database_url)
    for _ in range(2):
        command.upgrade(config, "head")
        command.check(config)  # the tables in the code are those of the migrations
        command.downgrade(config, "base")


def snapshot() -> Snapshot:
    key = make_key()
    scopes = frozenset({Scope.PREDICT})
    return Snapshot({key.id: Grant(key.id, "blue", "ada", Role.VIEWER, Role.ADMIN, scopes, key.digest, NOW)})


def test_a_snapshot_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "work" / "keys.json")
    assert file.load() is None
    for known in (snapshot(), snapshot()):
        file.save(known, NOW)
        assert file.load() == (known, NOW)
    assert stat.S_IMODE((tmp_path / "work" / "keys.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "work").stat().st_mode) == 0o700
    assert os.listdir(tmp_path / "work") == ["keys.json"]


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_a_snapshot_that_others_could_touch_is_not_believed(tmp_path: Path, mode: int) -> None:
    file = SnapshotFile(tmp_path / "keys.json")
    file.save(snapshot(), NOW)
    (tmp_path / "keys.json").chmod(mode)

    assert file.load() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"form": 1}', b"\xff"])
def test_a_snapshot_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    write_private(tmp_path / "keys.json", content)

    assert SnapshotFile(tmp_path / "keys.json").load() is None
    assert SnapshotFile(tmp_path / "keys.json" / "below").load() is None


def test_a_file_that_cannot_be_put_in_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_private(tmp_path / "taken", b"x")

    assert os.listdir(tmp_path) == ["taken"]
