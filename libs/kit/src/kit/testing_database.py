"""An empty database for every test, without making one: rows go, tables stay."""

import psycopg
from psycopg import sql

_TABLES = """
select format('%I.%I', schemaname, tablename) from pg_tables
where schemaname not in ('pg_catalog', 'information_schema') and tablename <> 'alembic_version'
"""
_SEQUENCES = """
select setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
from pg_sequences where last_value is not null
"""


def clear(session: psycopg.Connection) -> None:
    """Delete all rows of all tables as the superuser, and start sequences anew.

    Two milliseconds where TRUNCATE takes one for each table: a test's tables hold a handful of rows.
    """
    with session.transaction():
        # A transaction that an earlier test left open must fail the next test, not hang it.
        session.execute("set local lock_timeout = '5s'")
        # No foreign keys and no triggers: the order of the tables does not matter, and append-only ones are emptied.
        session.execute("set local session_replication_role = replica")
        for (table,) in session.execute(_TABLES).fetchall():
            session.execute(sql.SQL("delete from {}").format(sql.SQL(table)))
        session.execute(_SEQUENCES)
