"""One history for each service: up from nothing, down to nothing, and nothing else than what the code says."""

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command

from kit import migrations
from kit.ids import uuid7
from kit.tables import metadata_of

TABLES = "select tablename from pg_tables where schemaname = current_schema() order by tablename"
OURS = ["audit", "blob_links", "blobs", "event_cursors", "events", "holds", "idempotency_keys"]


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
