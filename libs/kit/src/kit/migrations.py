"""Alembic for any service of the suite: one history, one lock, short waits, and releases side by side.

A revision expands or contracts. What expands leaves alone the release that knows nothing of it, which may go on, and be
gone back to: its `migrate` finds revisions it does not know, and leaves them. What contracts takes away what no release
uses any more from `needs` on, which its module names; an older one refuses the schema then.
"""

import importlib.metadata
import logging
import re

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg import errors as pg

from kit import restores
from kit.db import ALIVE

log = logging.getLogger(__name__)
PATIENCE = "4s"
DISTRIBUTION = "trainyard-kit"
_SCHEMA = "coalesce(current_schema(), current_setting('search_path'))"
_NEEDS = sa.text("select obj_description('alembic_version'::regclass, 'pg_class')")
_BUSY = (pg.LockNotAvailable, pg.DeadlockDetected)


class Refused(Exception):
    """The schema is not what this release can work with, and what to do about it."""


def config(service: str, url: str) -> Config:
    it = Config()
    it.set_main_option("script_location", f"{service}.store:migrations")
    it.attributes["url"] = url
    return it


def upgrade(service: str, url: str, *, release: str | None = None) -> None:
    """Bring the schema up to date. Repeatable, also after it was killed; any number of processes may do so at once.

    A schema that a newer release has migrated is left as it is. `release` is this code's own, unless it is given.

    Raises:
        Refused: a table was in use, the database is away, or this release is too old for it.
    """
    it = config(service, url)
    it.attributes["release"] = release or importlib.metadata.version(DISTRIBUTION)
    try:
        command.upgrade(it, "head")
    except sa.exc.OperationalError as exc:
        raise Refused(_why(exc)) from exc


def _why(exc: sa.exc.OperationalError) -> str:
    if isinstance(exc.orig, _BUSY):
        return (
            f"A table that has to change was in use for {PATIENCE}: something has a long transaction open. "
            "The revisions before this one are done, this one not at all. Run it again."
        )
    return f"The database does not answer: {exc.orig}"


def run(metadata: sa.MetaData) -> None:
    """All that a service's env.py has to call."""
    connecting = {"connect_timeout": 10, **ALIVE}
    engine = sa.create_engine(context.config.attributes["url"], poolclass=sa.pool.NullPool, connect_args=connecting)
    try:
        with engine.connect() as connection:
            # Two replicas may start at once; the second waits here and then finds nothing to do. The lock is of the
            # schema, since all services may share one database. One that is missing has its path's name.
            connection.execute(sa.text(f"select pg_advisory_lock(hashtext('migrations'), hashtext({_SCHEMA}))"))
            _make_schema(connection)
            connection.execute(sa.text(f"set lock_timeout = '{PATIENCE}'"))
            connection.commit()
            if not _is_ahead(connection):
                context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
                with context.begin_transaction():
                    context.run_migrations()
            if "release" in context.config.attributes:
                _say_needs(connection)
                restores.rebase(connection)
                connection.commit()
    finally:
        engine.dispose()


def _make_schema(connection: sa.Connection) -> None:
    """Make the one schema that this service's address names, if it is not there (kit.databases.in_schema)."""
    if connection.scalar(sa.text("select current_schema()")) is None:
        schema = connection.scalar(sa.text("select current_setting('search_path')"))
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))


def _is_ahead(connection: sa.Connection) -> bool:
    """Whether a newer release was here before: on the way back to this one, say.

    Raises:
        Refused: that release has taken away what this one uses.
    """
    own: str = context.config.attributes.get("release", "")
    found = MigrationContext.configure(connection).get_current_heads()
    known = {script.revision for script in context.script.walk_revisions()}
    ahead = bool(own) and not known.issuperset(found)
    needs = (connection.scalar(_NEEDS) or "").removeprefix("needs ") if ahead else ""
    connection.commit()
    if not ahead:
        return False
    if needs and _order(own) < _order(needs):
        raise Refused(f"This database has been migrated for release {needs} or newer, and this is {own}.")
    log.warning("a newer release has migrated this database; left as it is", extra={"revisions": ",".join(found)})
    return True


def _say_needs(connection: sa.Connection) -> None:
    """Tell older releases, which do not know our revisions, which of them can work on the schema."""
    newest_first = [str(getattr(script.module, "needs", "")) for script in context.script.walk_revisions()]
    needs = next(filter(None, newest_first), "")
    before = (connection.scalar(_NEEDS) or "").removeprefix("needs ")
    if needs and _order(before) < _order(needs):
        connection.execute(sa.text(f"comment on table alembic_version is 'needs {needs}'"))


def _order(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release)[:3])
