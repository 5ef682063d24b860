"""The tables of serving, beside those that every service has (kit.tables)."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kit import leases, tables

metadata = tables.metadata_of()
tables.install(metadata)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("models", pg.JSONB, nullable=False),
    sa.Column("limits", pg.JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("pinned", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("phase", sa.Text, nullable=False, server_default="pending"),
    _text("reason"),
    _text("message"),
    sa.Column("observed_generation", sa.Integer, nullable=False, server_default="0"),
    sa.Column("revision", sa.Integer, nullable=True),
    # Counts the reasons to look again. One that comes while somebody looks makes what he finds out of date.
    sa.Column("nudges", sa.BigInteger, nullable=False, server_default="0"),
    _time("created_at"),
    _time("updated_at"),
    _time("removed_at", nullable=True),
    *leases.columns(),
    sa.CheckConstraint("phase IN ('pending', 'ready', 'failed')", name="phase"),
    # A name is free again at once; what is removed stays until its holds are let go for good.
    sa.Index("uq_deployments_name", "project", "name", unique=True, postgresql_where=sa.text("removed_at IS NULL")),
    sa.Index(None, "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
)

# Never changed: what answers and what is recorded name a revision and mean the same for ever.
revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("deployment_id", sa.Uuid, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("targets", pg.JSONB, nullable=False),
    _time("created_at"),
    leases.tracing_column(),
    sa.ForeignKeyConstraint(["project", "deployment_id"], ["deployments.project", "deployments.id"]),
)

# What a deployment holds at the registry, written before it does: whoever dies in between leaves a trace.
held = sa.Table(
    "held",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("deployment_id", sa.Uuid, primary_key=True),
    sa.Column("ref", sa.Text, primary_key=True),
    _time("released_at", nullable=True),
    sa.ForeignKeyConstraint(["project", "deployment_id"], ["deployments.project", "deployments.id"]),
)

replicas = sa.Table(
    "replicas",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("boot", sa.Uuid, nullable=False),
    _time("seen_at"),
)

observations = sa.Table(
    "observations",
    metadata,
    sa.Column("replica_id", sa.Uuid, sa.ForeignKey("replicas.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("deployment_id", sa.Uuid, primary_key=True),
    sa.Column("tried", sa.Integer, nullable=True),
    sa.Column("serving", sa.Integer, nullable=True),
    _text("reason"),
    _text("message"),
    _time("observed_at"),
    sa.Index(None, "project", "deployment_id"),
)

# What a revision is asked about every row of a dataset version. It keeps its own copy of the revision's targets: the
# deployment may go on, or go.
batches = sa.Table(
    "batches",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("deployment", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("targets", pg.JSONB, nullable=False),
    sa.Column("asked", pg.JSONB, nullable=False),
    sa.Column("pinned", pg.JSONB(none_as_null=True), nullable=True),
    sa.Column("phase", sa.Text, nullable=False, server_default="pending"),
    _text("reason"),
    _text("message"),
    _text("hint"),
    sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"),
    # Of its parts, which are dropped when it has ended.
    sa.Column("rows_done", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("refused", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("result", pg.JSONB(none_as_null=True), nullable=True),
    sa.Column("is_writing", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("delete_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("is_clean", sa.Boolean, nullable=False, server_default=sa.false()),
    _time("created_at"),
    _time("started_at", nullable=True),
    _time("finished_at", nullable=True),
    *leases.columns(),
    sa.CheckConstraint("phase IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')", name="phase"),
    sa.Index(None, "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    sa.Index(None, "project", "deployment", "id"),
)

batch_parts = sa.Table(
    "batch_parts",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("batch_id", sa.Uuid, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("phase", sa.Text, nullable=False, server_default="waiting"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _text("message"),
    sa.Column("refused", sa.Integer, nullable=False, server_default="0"),
    sa.Column("result", sa.Text, nullable=True),
    *leases.columns(),
    sa.CheckConstraint("phase IN ('waiting', 'done')", name="phase"),
    sa.ForeignKeyConstraint(["project", "batch_id"], ["batches.project", "batches.id"], ondelete="CASCADE"),
    sa.UniqueConstraint("project", "batch_id", "position"),
    sa.Index(None, "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
)

# Requests that were taken and are answered later.
predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("deployment", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=True),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("phase", sa.Text, nullable=False, server_default="pending"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    _text("message"),
    sa.Column("status", sa.Integer, nullable=True),
    sa.Column("answer", sa.LargeBinary, nullable=True),
    _time("created_at"),
    _time("finished_at", nullable=True),
    *leases.columns(),
    sa.CheckConstraint("phase IN ('pending', 'succeeded', 'failed')", name="phase"),
    sa.Index(None, "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    sa.Index(None, "created_at"),
)
