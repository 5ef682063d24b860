"""The tables that every service has beside its own: what makes effects happen once, and be known."""

from types import ModuleType

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kit import tracing


def metadata_of() -> sa.MetaData:
    """Metadata with our naming convention, so that every constraint has a name a migration can say."""
    return sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


_kit = metadata_of()

idempotency_keys = sa.Table(
    "idempotency_keys",
    _kit,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("headers", pg.JSONB, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    _time("created_at"),
)

events = sa.Table(
    "events",
    _kit,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    # The transaction that wrote the event: readers stay below the oldest one still running.
    sa.Column("xid", sa.BigInteger, nullable=False, server_default=sa.text("(pg_current_xact_id()::text)::bigint")),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("data", pg.JSONB, nullable=False),
    _time("created_at"),
    # Of the trace in which it happened, for those who act on it.
    sa.Column("traceparent", sa.Text, nullable=True, default=tracing.traceparent.get),
    sa.Index(None, "xid", "id"),
)

event_cursors = sa.Table(
    "event_cursors",
    _kit,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("cursor", sa.Text, nullable=False),
)

holds = sa.Table(
    "holds",
    _kit,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("noun", sa.Text, primary_key=True),
    sa.Column("ref", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, primary_key=True),
    _time("created_at"),
)

audit = sa.Table(
    "audit",
    _kit,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("issuer", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("noun", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("detail", pg.JSONB, nullable=False),
    sa.Column("request_id", sa.Text, nullable=True),
    _time("created_at"),
    sa.Index(None, "project", "id"),
)

blobs = sa.Table(
    "blobs",
    _kit,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="live"),
    _time("created_at"),
    _time("dying_since", nullable=True),
    sa.CheckConstraint("state IN ('live', 'dying', 'gone')", name="state"),
)

blob_links = sa.Table(
    "blob_links",
    _kit,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, primary_key=True),
    _time("created_at"),
    sa.ForeignKeyConstraint(["project", "digest"], ["blobs.project", "blobs.digest"]),
    sa.Index(None, "project", "owner"),
)


def install(metadata: sa.MetaData) -> None:
    """Add these tables to a service's own, so that one migration history knows them all."""
    for table in _kit.sorted_tables:
        table.to_metadata(metadata)


def create_all_0001(op: ModuleType) -> None:
    """For the first migration of a service; later changes of these tables are later functions here."""
    metadata = metadata_of()
    install(metadata)
    metadata.create_all(op.get_bind())


def drop_all_0001(op: ModuleType) -> None:
    """The way back of `create_all_0001`."""
    metadata = metadata_of()
    install(metadata)
    metadata.drop_all(op.get_bind())


def keep_traces_0002(op: ModuleType, *own: str) -> None:
    """Let events, and a service's `own` tables, say whose trace they belong to."""
    # A database that this release has made has the columns of the metadata from its first revision on.
    for table in ("events", *own):
        op.add_column(table, sa.Column("traceparent", sa.Text(), nullable=True), if_not_exists=True)


def forget_traces_0002(op: ModuleType, *own: str) -> None:
    """The way back of `keep_traces_0002`."""
    for table in ("events", *own):
        op.drop_column(table, "traceparent", if_exists=True)
