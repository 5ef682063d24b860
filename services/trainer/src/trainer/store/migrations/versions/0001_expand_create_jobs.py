"""expand: create jobs, their attempts, and what these report"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from kit import tables

revision = "0001"
down_revision = None


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _texts(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Text(), server_default="", nullable=False) for name in names]


def _flags(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False) for name in names]


def upgrade() -> None:
    tables.create_all_0001(op)
    _create_jobs()
    _create_attempts()
    _create_reports(
        "logs", sa.Column("level", sa.Text(), nullable=False), sa.Column("message", sa.Text(), nullable=False)
    )
    _create_reports(
        "points",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
    )


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("spec", pg.JSONB(), nullable=False),
        sa.Column("pinned_reference", sa.Text(), nullable=True),
        sa.Column("pinned_digest", sa.Text(), nullable=True),
        sa.Column("phase", sa.Text(), server_default="pending", nullable=False),
        *_texts("reason", "message", "hint"),
        *_flags("cancel_requested", "delete_requested", "registering"),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("metrics", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("model", pg.JSONB(), nullable=True),
        _time("created_at", nullable=False),
        *(_time(name) for name in ("started_at", "finished_at", "removed_at")),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        _time("lease_until"),
        sa.CheckConstraint(
            "phase IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_jobs_phase")
        ),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_due_at"), "jobs", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="queued", nullable=False),
        *_texts("reason", "message", "hint"),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("token_digest", sa.Text(), nullable=True),
        _time("lease_until"),
        _time("suspected_at"),
        *_flags("stop_requested"),
        sa.Column("progress", pg.JSONB(), nullable=True),
        sa.Column("log_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("result", pg.JSONB(), nullable=True),
        _time("created_at", nullable=False),
        *(_time(name) for name in ("started_at", "finished_at")),
        sa.CheckConstraint(
            "phase IN ('queued', 'running', 'succeeded', 'failed', 'stopped', 'lost', 'withdrawn')",
            name=op.f("ck_attempts_phase"),
        ),
        sa.ForeignKeyConstraint(
            ["project", "job_id"], ["jobs.project", "jobs.id"], name=op.f("fk_attempts_project_job_id")
        ),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("project", "job_id", "number", name=op.f("uq_attempts_project_job_id_number")),
    )
    op.create_index(
        "uq_attempts_live",
        "attempts",
        ["project", "job_id"],
        unique=True,
        postgresql_where=sa.text("phase IN ('queued', 'running')"),
    )
    op.create_index("ix_attempts_queued", "attempts", ["created_at"], postgresql_where=sa.text("phase = 'queued'"))
    op.create_index(
        "uq_attempts_token_digest",
        "attempts",
        ["token_digest"],
        unique=True,
        postgresql_where=sa.text("token_digest IS NOT NULL"),
    )


def _create_reports(name: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["project", "attempt_id"], ["attempts.project", "attempts.id"], name=op.f(f"fk_{name}_project_attempt_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
        sa.UniqueConstraint(
            *("project", "attempt_id", "fence", "source", "number"),
            name=op.f(f"uq_{name}_project_attempt_id_fence_source_number"),
        ),
    )
    op.create_index(op.f(f"ix_{name}_project_job_id_id"), name, ["project", "job_id", "id"])


def downgrade() -> None:
    for table in ("points", "logs", "attempts", "jobs"):
        op.drop_table(table)
    tables.drop_all_0001(op)
