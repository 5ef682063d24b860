"""The first key, made once, by a command that every start of the suite runs."""

import asyncio
import json
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import __main__
from gateway.bootstrap import SUBJECT, File, Refused, Secret, make_first_key
from gateway.domain.access import Grant, Scope
from gateway.domain.keys import read_key
from gateway.domain.projects import FIRST
from gateway.store.keys import KeyStore
from gateway.store.projects import ProjectStore
from kit.callers import Role
from kit.tables import audit
from kit.testing import DatabaseUrl, KeyFolder
from kit.testing_cluster import FakeCluster

from .gateways import add_key, add_project

URL = "http://127.0.0.1:8080"


def read(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(path.read_bytes())
    return found


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


async def grants(engine: AsyncEngine) -> dict[str, Grant]:
    async with engine.connect() as connection:
        return dict((await KeyStore(connection).snapshot()).grants)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "credentials.json"


async def test_a_key_of_an_admin_in_a_file_of_its_own(engine: AsyncEngine, path: Path) -> None:
    said = await make_first_key(engine, File(path), URL)

    assert str(path) in said
    assert set(read(path)) == {"url", "api_key"}
    assert read(path)["url"] == URL
    assert read(path)["api_key"] not in said
    assert mode_of(path) == 0o600
    key = read_key(read(path)["api_key"])
    assert key is not None
    grant = (await grants(engine))[key.id]
    assert key.is_of(grant.digest)
    assert (grant.project, grant.subject, grant.role) == (FIRST, SUBJECT, Role.ADMIN)
    assert grant.scopes == frozenset(Scope)
    async with engine.connect() as connection:
        rows = await connection.execute(sa.select(audit.c.action, audit.c.noun).order_by(audit.c.id))
        assert sorted(map(tuple, rows)) == [("add", "member"), ("create", "key"), ("create", "project")]


async def test_again_it_changes_nothing(engine: AsyncEngine, path: Path) -> None:
    await make_first_key(engine, File(path), URL)
    before, written = read(path), os.stat(path).st_mtime_ns
    said = await make_first_key(engine, File(path), URL)

    assert "as it should be" in said
    assert (read(path), os.stat(path).st_mtime_ns) == (before, written)
    assert len(await grants(engine)) == 1


async def test_another_place_keeps_the_key(engine: AsyncEngine, path: Path) -> None:
    await make_first_key(engine, File(path), URL)
    key = read(path)["api_key"]
    await make_first_key(engine, File(path), "http://127.0.0.1:9090")

    assert read(path) == {"url": "http://127.0.0.1:9090", "api_key": key}
    assert len(await grants(engine)) == 1


async def test_a_file_that_others_can_read_is_closed(engine: AsyncEngine, path: Path) -> None:
    await make_first_key(engine, File(path), URL)
    before = read(path)
    os.chmod(path, 0o644)
    await make_first_key(engine, File(path), URL)

    assert mode_of(path) == 0o600
    assert read(path) == before


async def test_a_file_that_is_gone_takes_its_key_with_it(engine: AsyncEngine, path: Path) -> None:
    await make_first_key(engine, File(path), URL)
    before = read_key(read(path)["api_key"])
    os.unlink(path)
    await make_first_key(engine, File(path), URL)
    after = read_key(read(path)["api_key"])

    assert before is not None
    assert after is not None
    assert set(await grants(engine)) == {after.id} != {before.id}


async def test_a_key_that_opens_nothing_or_soon_will_not_is_replaced(engine: AsyncEngine, path: Path) -> None:
    await add_project(engine, FIRST, admin=Role.ADMIN)
    soon = await add_key(engine, FIRST, SUBJECT, Role.ADMIN, lasts=timedelta(days=29))
    for text in ("ty_nothing", soon):
        put(path, json.dumps({"url": URL, "api_key": text}))
        await make_first_key(engine, File(path), URL)
        assert read(path)["api_key"] != text
    assert len(await grants(engine)) == 2  # the other one is somebody's


async def test_a_key_that_somebody_put_there_stays(engine: AsyncEngine, path: Path) -> None:
    await add_project(engine, "blue", ada=Role.ADMIN)
    put(path, json.dumps({"url": URL, "api_key": await add_key(engine, lasts=timedelta(days=90))}))
    before = read(path)
    await make_first_key(engine, File(path), URL)

    assert read(path) == before


async def test_the_admin_is_an_admin_again(engine: AsyncEngine, path: Path) -> None:
    await make_first_key(engine, File(path), URL)
    async with engine.begin() as connection:
        await ProjectStore(connection).put_member(FIRST, "other", Role.ADMIN)
        await ProjectStore(connection).put_member(FIRST, SUBJECT, Role.VIEWER)
    os.unlink(path)
    await make_first_key(engine, File(path), URL)

    assert {it.role for it in (await grants(engine)).values()} == {Role.ADMIN}


async def test_two_at_once_make_one_key(engine: AsyncEngine, path: Path) -> None:
    await asyncio.gather(*[make_first_key(engine, File(path), URL) for _ in range(2)])

    key = read_key(read(path)["api_key"])
    assert key is not None
    assert set(await grants(engine)) == {key.id}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 1}', "my diary"])
async def test_a_file_that_is_something_else_is_not_touched(engine: AsyncEngine, path: Path, content: str) -> None:
    put(path, content)
    with pytest.raises(Refused, match="something else"):
        await make_first_key(engine, File(path), URL)

    assert os.stat(path).st_size == len(content)
    assert await grants(engine) == {}


async def test_a_place_that_cannot_be_written_is_named(engine: AsyncEngine, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(Refused, match="taken"):
        await make_first_key(engine, File(tmp_path / "taken" / "credentials.json"), URL)
    with pytest.raises(Refused, match="cannot be written"):
        await make_first_key(engine, File(Path("/proc/nothing/credentials.json")), URL)
    (tmp_path / "folder").mkdir()
    with pytest.raises(Refused, match="cannot be read"):
        await make_first_key(engine, File(tmp_path / "folder"), URL)
    assert sorted(os.listdir(tmp_path)) == ["folder", "taken"]


async def test_a_key_in_a_secret(engine: AsyncEngine) -> None:
    fake = FakeCluster()
    said = await make_first_key(engine, Secret(fake.client(), "r-admin"), URL)

    text = fake.text("secrets", "r-admin", "api_key") or ""
    assert "Secret r-admin" in said
    assert text not in said
    key = read_key(text)
    assert key is not None
    assert key.is_of((await grants(engine))[key.id].digest)
    assert fake.text("secrets", "r-admin", "url") == URL


async def test_a_secret_that_is_there_stays_and_is_told_another_url(engine: AsyncEngine) -> None:
    fake = FakeCluster()
    place = Secret(fake.client(), "r-admin")
    await make_first_key(engine, place, URL)
    before = fake.objects["secrets", "r-admin"]

    assert "as it should be" in await make_first_key(engine, place, URL)
    assert fake.objects["secrets", "r-admin"] == before
    assert "Wrote http://other" in await make_first_key(engine, place, "http://other")
    assert fake.text("secrets", "r-admin", "url") == "http://other"
    assert len(await grants(engine)) == 1


async def test_a_secret_that_is_gone_takes_its_key_with_it(engine: AsyncEngine) -> None:
    fake = FakeCluster()
    place = Secret(fake.client(), "r-admin")
    await make_first_key(engine, place, URL)
    del fake.objects["secrets", "r-admin"]
    await make_first_key(engine, place, URL)

    key = read_key(fake.text("secrets", "r-admin", "api_key") or "")
    assert key is not None
    assert set(await grants(engine)) == {key.id}


async def test_a_secret_that_is_something_else_is_not_touched(engine: AsyncEngine) -> None:
    fake = FakeCluster()
    fake.client().create("secrets", "r-admin", {"diary": "mine"})
    before = dict(fake.objects)

    with pytest.raises(Refused, match="something else"):
        await make_first_key(engine, Secret(fake.client(), "r-admin"), URL)
    assert fake.objects == before
    assert await grants(engine) == {}


@pytest.mark.parametrize(("method", "said"), [("GET", "cannot be read"), ("POST", "cannot be written")])
async def test_a_cluster_that_refuses_is_quoted(engine: AsyncEngine, method: str, said: str) -> None:
    fake = FakeCluster()
    fake.forbidden.add((method, "secrets"))

    with pytest.raises(Refused, match=f"Secret r-admin {said}: .*forbidden"):
        await make_first_key(engine, Secret(fake.client(), "r-admin"), URL)


async def test_a_secret_that_somebody_makes_meanwhile_is_theirs(engine: AsyncEngine) -> None:
    fake = FakeCluster()

    def meanwhile(method: str, kind: str) -> None:
        if method == "POST":
            fake.put("secrets", "r-admin", data={})

    fake.before = meanwhile
    with pytest.raises(Refused, match="somebody else"):
        await make_first_key(engine, Secret(fake.client(), "r-admin"), URL)
    assert fake.objects["secrets", "r-admin"]["data"] == {}


def test_the_command(
    database_url: DatabaseUrl,
    key_folder: KeyFolder,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = {
        "DATABASE_URL": database_url("gateway"),
        "PRIVATE_KEY_FILE": str(key_folder.private("gateway")),
        "PUBLIC_KEYS_FILE": str(key_folder.public),
    }
    told |= {f"{name}_URL": "http://127.0.0.1:1" for name in ("INGEST", "TRAINER", "REGISTRY", "SERVING", "PIPELINES")}
    for name, value in told.items():
        monkeypatch.setenv(f"GATEWAY_{name}", value)
    arguments = ["bootstrap", "--credentials", str(path), "--url", URL]

    assert __main__.main(arguments) == 0
    assert read(path)["url"] == URL
    assert read(path)["api_key"] not in capsys.readouterr().out
    path.write_text("my diary")
    assert __main__.main(arguments) == 1
    assert "something else" in capsys.readouterr().err
    assert __main__.main(["bootstrap", "--secret", "r-admin", "--url", URL]) == 1
    assert "no pod" in capsys.readouterr().err
