"""The ground that tests stand on."""

import socket
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from kit import testing_database
from kit.testing import eventually


@pytest.fixture
def session(empty_database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_database_url.replace("+psycopg", ""), autocommit=True) as session:
        session.execute("create table parents (id int generated always as identity primary key)")
        session.execute("create table children (parent int references parents)")
        session.execute("create table alembic_version (version text)")
        yield session


async def test_rows_go_and_tables_stay(session: psycopg.Connection, postgres: object, empty_database_url: str) -> None:
    session.execute("insert into parents default values")
    session.execute("insert into children values (1)")
    session.execute("insert into alembic_version values ('0001')")
    database = empty_database_url.split("?")[0].rsplit("/", 1)[1]
    with psycopg.connect(postgres.url(database).replace("+psycopg", ""), autocommit=True) as admin:  # type: ignore[attr-defined]  # kit does not know what runs it
        testing_database.clear(admin)
    assert session.execute("select count(*) from children").fetchone() == (0,)
    assert session.execute("insert into parents default values returning id").fetchone() == (1,)
    assert session.execute("select count(*) from alembic_version").fetchone() == (1,)


async def test_eventually_waits_for_what_is_not_yet_so() -> None:
    answers = iter([0, None, 7])
    assert await eventually(lambda: next(answers)) == 7


async def test_eventually_takes_a_failed_assertion_for_not_yet() -> None:
    answers = iter([1, 2, 3])

    async def check() -> bool:
        assert next(answers) > 2
        return True

    assert await eventually(check)


async def test_eventually_ends_with_the_last_failed_assertion() -> None:
    def check() -> bool:
        assert 1 > 2, "one is not more than two"
        return True

    with pytest.raises(AssertionError, match="one is not more"):
        await eventually(check, timedelta(milliseconds=30))


async def test_eventually_gives_up() -> None:
    with pytest.raises(AssertionError, match="not within"):
        await eventually(lambda: False, timedelta(milliseconds=30))


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80), ("example.org", 80)])
def test_no_test_leaves_the_machine(address: tuple[str, int]) -> None:
    with pytest.raises(RuntimeError, match="leave this machine"):
        socket.create_connection(address, timeout=1)
