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


def _amounts(prefix: str = "", *, nullable: bool = False) -> list[sa.Column[object]]:
    default = None if nullable else "0"
    return [
        sa.Column(f"{prefix}{name}", sa.BigInteger, nullable=nullable, server_default=default)
        for name in ("cpu_millis", "memory_bytes", "gpus")
    ]


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
    # What a job that has begun has waited for others since, and until when: its deadline does not count that.
    sa.Column("paused_seconds", sa.Double, nullable=False, server_default="0"),
    _time("paused_since"),
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
    # What it takes of its project's quota while it lives; not, if a release made it that knows no quotas.
    _flag("admitted"),
    *_amounts(),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    # The job that it was stopped for.
    sa.Column("preempted_for", sa.Uuid, nullable=True),
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

# What each project may have, and what its attempts take of it. The one row that admissions of a project pass through.
quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    *_amounts(nullable=True),
    sa.Column("jobs", sa.BigInteger, nullable=True),
    sa.Column("priority", sa.Integer, nullable=True),
    sa.Column("core_hours", sa.Double, nullable=True),
    sa.Column("period", sa.Text, nullable=False, server_default="month"),
    *_amounts("used_"),
    sa.Column("used_jobs", sa.BigInteger, nullable=False, server_default="0"),
    _time("updated_at"),
)

# Jobs that wait for their project's quota. Whoever comes first here is let in first.
waiting = sa.Table(
    "waiting",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Uuid, primary_key=True),
    sa.Column("priority", sa.Integer, nullable=False),
    _time("since", nullable=False),
)

# What attempts took, for good: jobs are deleted, and what they took was taken.
usage = sa.Table(
    "usage",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("core_seconds", sa.Double, nullable=False),
    sa.Column("gib_seconds", sa.Double, nullable=False),
    sa.Column("gpu_seconds", sa.Double, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),
)

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("subject", sa.Text, nullable=False),
    _time("created_at", nullable=False),
    _time("updated_at", nullable=False),
)

sweeps = sa.Table(
    "sweeps",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("spec", pg.JSONB, nullable=False),
    sa.Column("asked", pg.JSONB, nullable=False),
    sa.Column("phase", sa.Text, nullable=False, server_default="running"),
    *_why(),
    _flag("cancel_requested"),
    sa.Column("woken", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("summary", pg.JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    sa.Column("model", pg.JSONB, nullable=True),
    _time("created_at", nullable=False),
    _time("finished_at"),
    *leases.columns(),
    sa.CheckConstraint("phase IN ('running', 'succeeded', 'failed', 'cancelled')", name="phase"),
    sa.Index(None, "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
)

trials = sa.Table(
    "trials",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("sweep_id", sa.Uuid, primary_key=True),
    # No number is tried twice, whatever a reconciler believes.
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    # No foreign key: the job may be deleted before, and what came of it stays.
    sa.Column("job_id", sa.Uuid, nullable=False),
    sa.Column("parameters", pg.JSONB, nullable=False),
    sa.Column("phase", sa.Text, nullable=False, server_default="running"),
    sa.Column("value", sa.Double, nullable=True),
    sa.Column("step", sa.BigInteger, nullable=True),
    sa.Column("rungs", pg.JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),
    sa.Column("seconds", sa.Double, nullable=False, server_default="0"),
    sa.Column("message", sa.Text, nullable=False, server_default=""),
    _time("created_at", nullable=False),
    _time("finished_at"),
    sa.ForeignKeyConstraint(["project", "sweep_id"], ["sweeps.project", "sweeps.id"]),
    sa.UniqueConstraint("project", "job_id"),
    sa.CheckConstraint("phase IN ('running', 'succeeded', 'pruned', 'failed', 'cancelled')", name="phase"),
)

bundles = sa.Table(
    "bundles",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    # Of the archive's bytes, which are a blob.
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("files", sa.Integer, nullable=False),
    # What a job may start: the Python files, so that a wrong name is refused and nothing is unpacked to find out.
    sa.Column("entries", sa.ARRAY(sa.Text), nullable=False),
    _time("used_at", nullable=False),
    sa.Index(None, "used_at"),
)
