"""expand: create sweeps and their trials"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0005"
down_revision = "0004"


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _json(name: str, default: str) -> sa.Column[object]:
    return sa.Column(name, pg.JSONB(), server_default=sa.text(f"'{default}'::jsonb"), nullable=False)


def upgrade() -> None:
    _create_sweeps()
    _create_trials()


def _create_sweeps() -> None:
    op.create_table(
        "sweeps",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("spec", pg.JSONB(), nullable=False),
        sa.Column("asked", pg.JSONB(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="running", nullable=False),
        *(_text(name) for name in ("reason", "message", "hint")),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("woken", sa.BigInteger(), server_default="0", nullable=False),
        _json("summary", "{}"),
        sa.Column("model", pg.JSONB(), nullable=True),
        _time("created_at", nullable=False),
        _time("finished_at"),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        _time("lease_until"),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.CheckConstraint("phase IN ('running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_sweeps_phase")),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_sweeps")),
    )
    op.create_index(op.f("ix_sweeps_due_at"), "sweeps", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))


def _create_trials() -> None:
    op.create_table(
        "trials",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("sweep_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("parameters", pg.JSONB(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="running", nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("step", sa.BigInteger(), nullable=True),
        _json("rungs", "[]"),
        sa.Column("seconds", sa.Double(), server_default="0", nullable=False),
        _text("message"),
        _time("created_at", nullable=False),
        _time("finished_at"),
        sa.CheckConstraint(
            "phase IN ('running', 'succeeded', 'pruned', 'failed', 'cancelled')", name=op.f("ck_trials_phase")
        ),
        sa.ForeignKeyConstraint(
            ["project", "sweep_id"], ["sweeps.project", "sweeps.id"], name=op.f("fk_trials_project_sweep_id")
        ),
        sa.PrimaryKeyConstraint("project", "sweep_id", "number", name=op.f("pk_trials")),
        sa.UniqueConstraint("project", "job_id", name=op.f("uq_trials_project_job_id")),
    )


def downgrade() -> None:
    op.drop_table("trials")
    op.drop_table("sweeps")
