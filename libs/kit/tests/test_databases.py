"""A server made ready for the services, by its administrator; and addresses in the forms that people have them."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from kit import databases, db, migrations
from kit.__main__ import main
from kit.databases import Address, Refused
from kit.settings import Settings
from trainyard_local import postgres as local

SECRET = "p@ss:w/rd"
TABLES = "select schemaname, tablename from pg_tables where tablename = 'lamps'"


def address(server: local.Server, role: str, database: str, password: str = SECRET) -> str:
    return databases.plain(local.url_of(server.sockets, role, password, database))


@pytest.fixture
def told(postgres: local.Server) -> dict[str, str]:
    """What an administrator, and two services are given.

    Of names that no other test has: roles are the server's, not a database's, and `lamps` is what others connect as.
    """
    services = {f"{it.upper()}_DATABASE_URL": address(postgres, it, "prepared") for it in ("chairs", "doors")}
    return {databases.ADMIN: databases.plain(postgres.url()), **services}


def connected(url: str) -> psycopg.Connection:
    return psycopg.connect(databases.plain(url))


def drop(server: local.Server, *roles: str) -> None:
    with psycopg.connect(databases.plain(server.url()), autocommit=True) as session:
        session.execute("drop database if exists prepared with (force)")
        for role in roles:
            session.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))


def test_the_database_is_prepared_as_the_services_addresses_say(
    postgres: local.Server, told: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        assert main(["database", "prepare", "chairs", "doors"]) == 0
        assert capsys.readouterr().out == "prepared prepared for chairs, doors\n"
    with connected(told["CHAIRS_DATABASE_URL"]) as session:
        session.execute("create table chairs (name text)")
        assert session.execute("select current_schema()").fetchone() == ("chairs",)
    with connected(told["DOORS_DATABASE_URL"]) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("select * from chairs.chairs")
    drop(postgres, "chairs", "doors")


def test_an_administrator_who_is_no_superuser_can_do_it(postgres: local.Server, told: dict[str, str]) -> None:
    with psycopg.connect(databases.plain(postgres.url()), autocommit=True) as session:
        session.execute(sql.SQL("create role clerk login createdb createrole password {}").format(sql.Literal(SECRET)))
    told[databases.ADMIN] = address(postgres, "clerk", "postgres")
    for _ in range(2):
        assert databases.prepare_all(told, ["chairs", "doors"], within=1) == ["prepared"]
    with connected(told["DOORS_DATABASE_URL"]) as session:
        session.execute("create table doors (name text)")
    drop(postgres, "chairs", "doors", "clerk")


def test_many_at_once_all_succeed(postgres: local.Server, told: dict[str, str]) -> None:
    command = [sys.executable, "-m", "kit", "database", "prepare", "chairs", "doors"]
    databases.prepare_all(told, [], within=1)
    with psycopg.connect(databases.plain(postgres.url()), autocommit=True) as session:
        session.execute("create database prepared")
    running = [subprocess.Popen(command, env=told, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(it.communicate()[1], it.returncode) for it in running] == [("", 0)] * 4
    drop(postgres, "chairs", "doors")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"CHAIRS_DATABASE_URL": ""}, "CHAIRS_DATABASE_URL is not set"),
        ({"CHAIRS_DATABASE_URL": "postgresql://chairs@/prepared"}, "must name a role, a password and a database"),
        ({"CHAIRS_DATABASE_URL": "not an address of s3cret"}, "CHAIRS_DATABASE_URL is no address of a database"),
        ({databases.ADMIN: ""}, f"{databases.ADMIN} is not set"),
    ],
)
def test_what_is_missing_is_said_without_a_password(told: dict[str, str], changed: dict[str, str], says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        databases.prepare_all(told | changed, ["chairs"], within=0)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("password", [SECRET, "guessed"])
def test_a_server_that_is_away_or_refuses_ends_it(
    postgres: local.Server,
    told: dict[str, str],
    password: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = postgres.sockets if password == "guessed" else tmp_path
    told[databases.ADMIN] = databases.plain(local.url_of(where, "trainyard", password, "postgres"))
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert main(["database", "prepare", "--wait", "0.6", "chairs"]) == 1
    said = capsys.readouterr().err
    assert said
    assert password not in said


def test_addresses_are_read_from_what_the_services_are_given(told: dict[str, str]) -> None:
    assert databases.addresses(told, ["chairs"]) == [Address("chairs", "prepared", "chairs", SECRET)]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_form_of_an_address_is_taken(scheme: str) -> None:
    settings = Settings.model_validate(
        {"database_url": f"{scheme}://a:b@c/d", "private_key_file": "/k", "public_keys_file": "/p"}
    )
    assert settings.url == "postgresql+psycopg://a:b@c/d"


async def test_services_that_share_a_role_have_a_schema_each(postgres: local.Server, empty_database_url: str) -> None:
    database = sa.make_url(empty_database_url).database or ""
    with psycopg.connect(databases.plain(postgres.url()), autocommit=True) as session:
        session.execute(sql.SQL("alter database {} owner to nobody").format(sql.Identifier(database)))
    given = {"private_key_file": "/k", "public_keys_file": "/p"}
    one, two = (
        Settings.model_validate({"database_url": empty_database_url, "database_schema": name, **given}).url
        for name in ("one", "two")
    )
    for url in (one, two, one):
        migrations.upgrade("lamps", url)
    with connected(empty_database_url) as session:
        assert sorted(session.execute(TABLES)) == [("one", "lamps"), ("two", "lamps")]
    engine = db.make_engine(two)
    async with engine.connect() as connection:
        assert await connection.scalar(sa.text("select current_schema()")) == "two"
        assert await connection.scalar(sa.text("show lock_timeout")) == "10s"
    await engine.dispose()


@pytest.mark.parametrize("schema", ["two words", "a,b", "-csearch_path=x", "", "a" * 64])
def test_a_schema_that_is_no_plain_name_is_refused(schema: str) -> None:
    with pytest.raises(ValueError, match="database_schema"):
        Settings.model_validate(
            {
                "database_url": "postgresql://a:b@c/d",
                "database_schema": schema,
                "private_key_file": "/k",
                "public_keys_file": "/p",
            }
        )
