"""Alembic for any service of the suite: one history, one lock, short waits."""

import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config

_SCHEMA = "coalesce(current_schema(), current_setting('search_path'))"


def config(service: str, url: str) -> Config:
    it = Config()
    it.set_main_option("script_location", f"{service}.store:migrations")
    it.attributes["url"] = url
    return it


def upgrade(service: str, url: str) -> None:
    command.upgrade(config(service, url), "head")


def run(metadata: sa.MetaData) -> None:
    """All that a service's env.py has to call."""
    engine = sa.create_engine(context.config.attributes["url"], poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        # Two replicas may start at once; the second waits here and then finds nothing to do.
        # The lock is of the schema, since all services may share one database. One that is missing has its path's name.
        connection.execute(sa.text(f"select pg_advisory_lock(hashtext('migrations'), hashtext({_SCHEMA}))"))
        _make_schema(connection)
        connection.execute(sa.text("set lock_timeout = '4s'"))
        connection.commit()
        context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


def _make_schema(connection: sa.Connection) -> None:
    """Make the one schema that this service's address names, if it is not there (kit.databases.in_schema)."""
    if connection.scalar(sa.text("select current_schema()")) is None:
        schema = connection.scalar(sa.text("select current_setting('search_path')"))
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
