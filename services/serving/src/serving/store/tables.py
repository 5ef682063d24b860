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
