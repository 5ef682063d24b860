"""One history for each service: up from nothing, down to nothing, and nothing else than what the code says.

And two releases of one service on one database: the older one goes on, until something it needs is taken away.
"""

import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command

from kit import migrations
from kit.ids import uuid7
from kit.tables import metadata_of
from kit.testing import eventually

from .histories import Release

TABLES = "select tablename from pg_tables where schemaname = current_schema() order by tablename"
OURS = ["audit", "blob_links", "blobs", "event_cursors", "events", "holds", "idempotency_keys"]


WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
MakeRelease = Callable[[], Release]
_NAMES = itertools.count()


@pytest.fixture
def make_release(tmp_path: Path) -> MakeRelease:
    return lambda: Release(tmp_path, f"lanterns_{next(_NAMES)}")


def opened(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""))


def columns(url: str) -> set[str]:
    with opened(url) as session:
        names = session.execute("select column_name from information_schema.columns where table_name = 'lamps'")
        return {name for (name,) in names}


def tables(url: str) -> list[str]:
    with psycopg.connect(url.replace("+psycopg", "")) as session:
        return [name for (name,) in session.execute(TABLES)]


def test_up_and_down_and_up_again(empty_database_url: str) -> None:
    for _ in range(2):
        migrations.upgrade("lamps", empty_database_url)
        assert tables(empty_database_url) == sorted([*OURS, "lamps", "alembic_version"])
        command.check(migrations.config("lamps", empty_database_url))
        command.downgrade(migrations.config("lamps", empty_database_url), "base")
        assert tables(empty_database_url) == ["alembic_version"]


def test_a_second_upgrade_has_nothing_to_do(empty_database_url: str) -> None:
    migrations.upgrade("lamps", empty_database_url)
    migrations.upgrade("lamps", empty_database_url)
    assert "lamps" in tables(empty_database_url)


def test_a_migration_waits_a_short_while_for_a_table_in_use(empty_database_url: str) -> None:
    migrations.upgrade("lamps", empty_database_url)
    with psycopg.connect(empty_database_url.replace("+psycopg", "")) as session:
        session.execute("select * from lamps")
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            command.downgrade(migrations.config("lamps", empty_database_url), "base")


def test_constraints_have_names_that_a_migration_can_say() -> None:
    table = sa.Table("a", metadata_of(), sa.Column("b", sa.Integer, primary_key=True), sa.UniqueConstraint("b"))
    assert {constraint.name for constraint in table.constraints} == {"pk_a", "uq_a_b"}


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = [uuid7() for _ in range(3)]
    assert {(it.version, it.variant) for it in made} == {(7, "specified in RFC 4122")}
    assert len(set(made)) == 3
    assert [it.int >> 80 for it in made] == sorted(it.int >> 80 for it in made)


@pytest.mark.parametrize("moment", ["at once", "again"])
def test_a_release_of_before_leaves_what_it_does_not_know(
    make_release: MakeRelease, empty_database_url: str, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    old, new = make_release(), make_release()
    new.add(2, "alter table lamps add column colour text")
    old.upgrade(empty_database_url)
    new.upgrade(empty_database_url, "0.2.0")
    with caplog.at_level(logging.WARNING, "kit.migrations"):
        for _ in range(1 if moment == "at once" else 2):
            old.upgrade(empty_database_url)
    assert "colour" in columns(empty_database_url)
    assert {record.message for record in caplog.records} == {
        "a newer release has migrated this database; left as it is"
    }


@pytest.mark.parametrize(("release", "refused"), [("0.1.9", True), ("0.2.0", False), ("0.10.0", False)])
def test_a_release_that_needs_what_was_taken_away_refuses_the_schema(
    make_release: MakeRelease, empty_database_url: str, release: str, refused: bool
) -> None:
    old, new = make_release(), make_release()
    new.add(2, "alter table lamps drop column phase", needs="0.2.0")
    new.add(3, "alter table lamps add column colour text")
    for _ in range(2):
        new.upgrade(empty_database_url, "0.3.0")
    if refused:
        with pytest.raises(migrations.Refused, match=r"migrated for release 0\.2\.0 or newer, and this is 0\.1\.9"):
            old.upgrade(empty_database_url, release)
    else:
        old.upgrade(empty_database_url, release)
    assert "colour" in columns(empty_database_url)


def test_a_newer_need_replaces_an_older_one_and_never_the_other_way(
    make_release: MakeRelease, empty_database_url: str
) -> None:
    oldest, old, new = (make_release() for _ in range(3))
    for release in (old, new):
        release.add(2, "alter table lamps drop column phase", needs="0.2.0")
    new.add(3, "alter table lamps drop column name", needs="0.10.0")
    new.upgrade(empty_database_url, "0.11.0")
    old.upgrade(empty_database_url, "0.10.0")
    with pytest.raises(migrations.Refused, match=r"release 0\.10\.0 or newer"):
        oldest.upgrade(empty_database_url, "0.9.0")


def test_who_waits_too_long_for_a_table_says_so_and_is_run_again(
    make_release: MakeRelease, empty_database_url: str
) -> None:
    release = make_release()
    release.upgrade(empty_database_url)
    release.add(2, "alter table lamps add column colour text")
    release.add(3, "alter table lamps add column size text")
    with opened(empty_database_url) as session:
        session.execute("select * from lamps")
        with pytest.raises(migrations.Refused, match=r"in use for 4s.* Run it again\."):
            release.upgrade(empty_database_url)
    release.upgrade(empty_database_url)
    assert columns(empty_database_url) >= {"colour", "size"}


def test_a_database_that_is_away_is_named_without_its_password(make_release: MakeRelease) -> None:
    with pytest.raises(migrations.Refused, match="does not answer") as refused:
        make_release().upgrade("postgresql+psycopg://ada:hush@127.0.0.1:1/none")
    assert "hush" not in str(refused.value)


async def test_one_that_is_killed_in_the_middle_is_run_again(
    make_release: MakeRelease, empty_database_url: str
) -> None:
    release = make_release()
    release.upgrade(empty_database_url)
    release.add(2, "alter table lamps add column colour text; select pg_sleep(600)")
    slow = release.process(empty_database_url)
    asked = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()"
    with opened(empty_database_url) as session:
        session.autocommit = True
        await eventually(lambda: session.execute(asked).fetchone() == (1,))
        slow.kill()
        slow.communicate()
        # The server goes on for a dead client until it notices; here it is told.
        session.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)%'"
            " and pid <> pg_backend_pid()"
        )
    assert "colour" not in columns(empty_database_url)
    release.add(2, "alter table lamps add column colour text")
    release.upgrade(empty_database_url)
    assert "colour" in columns(empty_database_url)


async def test_five_at_once_do_it_once_and_all_end_well(make_release: MakeRelease, empty_database_url: str) -> None:
    release = make_release()
    for number in range(2, 5):
        release.add(number, f"create table more_{number} (n int)")
    migrating = [release.process(empty_database_url) for _ in range(5)]
    ended = [(process.communicate(timeout=60), process.returncode) for process in migrating]
    assert [code for _, code in ended] == [0] * 5, ended
    assert {"more_2", "more_3", "more_4"} <= set(tables(empty_database_url))
