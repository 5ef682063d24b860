"""The tables of pipelines, beside those that every service has (kit.tables)."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kit import leases, tables

metadata = tables.metadata_of()
tables.install(metadata)


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


pipelines = sa.Table(
    "pipelines",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    # JSON, not JSONB: the order of the steps is the author's.
    sa.Column("definition", pg.JSON, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    _time("created_at", nullable=False),
    _time("updated_at", nullable=False),
    sa.UniqueConstraint("project", "name"),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("parameters", pg.JSON, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("phase", sa.Text, nullable=False, server_default="running"),
    _text("reason"),
    _text("message"),
    _flag("cancel_requested"),
    _time("created_at", nullable=False),
    _time("finished_at"),
    sa.CheckConstraint("phase IN ('running', 'succeeded', 'failed', 'cancelled')", name="phase"),
    sa.Index(None, "project", "pipeline", "id"),
    sa.Index("ix_runs_finished_at", "finished_at", postgresql_where=sa.text("finished_at IS NOT NULL")),
)

steps = sa.Table(
    "steps",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("run_id", sa.Uuid, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    # As they are written, and an order in which each comes after what it needs.
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("spec", pg.JSON, nullable=False),
    sa.Column("phase", sa.Text, nullable=False, server_default="waiting"),
    _text("reason"),
    _text("message"),
    _count("attempt"),
    _count("retried"),
    _count("failures"),
    _time("failing_since"),
    sa.Column("inputs", pg.JSONB(none_as_null=True), nullable=True),
    sa.Column("key", sa.Text, nullable=True),
    _flag("elected"),
    sa.Column("memo", pg.JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    # Whose event makes it due: `trainer:<job>`, `ingest:flights@3`, `key:sha256:…`.
    sa.Column("awaits", sa.Text, nullable=True),
    sa.Column("outputs", pg.JSONB(none_as_null=True), nullable=True),
    _time("started_at"),
    _time("attempt_at"),
    _time("finished_at"),
    *leases.columns(),
    sa.ForeignKeyConstraint(["project", "run_id"], ["runs.project", "runs.id"]),
    sa.UniqueConstraint("project", "run_id", "name"),
    sa.CheckConstraint(
        "phase IN ('waiting', 'running', 'succeeded', 'reused', 'skipped', 'failed', 'cancelled')", name="phase"
    ),
    sa.Index(None, "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    sa.Index("ix_steps_awaits", "project", "awaits", postgresql_where=sa.text("awaits IS NOT NULL")),
)

# One row for each key: its primary key elects the one step that does what the key stands for.
results = sa.Table(
    "results",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("step_id", sa.Uuid, nullable=False),
    # Null: it is being done.
    sa.Column("outputs", pg.JSONB(none_as_null=True), nullable=True),
    _time("used_at", nullable=False),
)
