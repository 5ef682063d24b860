"""The tables of the trainer. Statements about them are in the stores beside this file."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kit import leases, tables

metadata = tables.metadata_of()
tables.install(metadata)


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def _why() -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Text, nullable=False, server_default="") for name in ("reason", "message", "hint")]


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("spec", pg.JSONB, nullable=False),
    sa.Column("pinned_reference", sa.Text, nullable=True),
    sa.Column("pinned_digest", sa.Text, nullable=True),
    sa.Column("phase", sa.Text, nullable=False, server_default="pending"),
    *_why(),
    _flag("cancel_requested"),
    _flag("delete_requested"),
    _flag("registering"),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("metrics", pg.JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    sa.Column("model", pg.JSONB, nullable=True),
    _time("created_at", nullable=False),
    _time("started_at"),
    _time("finished_at"),
    _time("removed_at"),
    *leases.columns(),
    sa.CheckConstraint("phase IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')", name="phase"),
    sa.Index(None, "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("job_id", sa.Uuid, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("phase", sa.Text, nullable=False, server_default="queued"),
    *_why(),
    sa.Column("host", sa.Text, nullable=True),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
    # Of the token that the program in the job has: nothing here lets anybody speak for it.
    sa.Column("token_digest", sa.Text, nullable=True),
    _time("lease_until"),
    _time("suspected_at"),
    _flag("stop_requested"),
    sa.Column("progress", pg.JSONB, nullable=True),
    sa.Column("log_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("exit_code", sa.Integer, nullable=True),
    sa.Column("result", pg.JSONB, nullable=True),
    _time("created_at", nullable=False),
    _time("started_at"),
    _time("finished_at"),
    leases.tracing_column(),
    sa.ForeignKeyConstraint(["project", "job_id"], ["jobs.project", "jobs.id"]),
    sa.UniqueConstraint("project", "job_id", "number"),
    sa.CheckConstraint(
        "phase IN ('queued', 'running', 'succeeded', 'failed', 'stopped', 'lost', 'withdrawn')", name="phase"
    ),
    # No job is worked on twice at one time, whatever a reconciler believes.
    sa.Index(
        "uq_attempts_live",
        "project",
        "job_id",
        unique=True,
        postgresql_where=sa.text("phase IN ('queued', 'running')"),
    ),
    sa.Index("ix_attempts_queued", "created_at", postgresql_where=sa.text("phase = 'queued'")),
    sa.Index(
        "uq_attempts_token_digest", "token_digest", unique=True, postgresql_where=sa.text("token_digest IS NOT NULL")
    ),
)


def _reports(name: str, *columns: sa.Column[object]) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        # Rows of one attempt are written under its row's lock, and attempts follow each other: this is their order.
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("attempt_id", sa.Uuid, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(["project", "attempt_id"], ["attempts.project", "attempts.id"]),
        # What is sent again after a lost answer is kept once.
        sa.UniqueConstraint("project", "attempt_id", "fence", "source", "number"),
        sa.Index(None, "project", "job_id", "id"),
    )


logs = _reports("logs", sa.Column("level", sa.Text, nullable=False), sa.Column("message", sa.Text, nullable=False))
points = _reports(
    "points",
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False),
)
