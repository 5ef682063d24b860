"""expand: create pipelines, runs, steps and results"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from kit import tables

revision = "0001"
down_revision = None


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default="")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default="0")


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def upgrade() -> None:
    tables.create_all_0001(op)
    op.create_table(
        "pipelines",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("definition", pg.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        _time("created_at", nullable=False),
        _time("updated_at", nullable=False),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_pipelines")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_pipelines_project_name")),
    )
    op.create_table(
        "results",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("step_id", sa.Uuid(), nullable=False),
        sa.Column("outputs", pg.JSONB(), nullable=True),
        _time("used_at", nullable=False),
        sa.PrimaryKeyConstraint("project", "key", name=op.f("pk_results")),
    )
    _create_runs()
    _create_steps()


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("parameters", pg.JSON(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="running", nullable=False),
        _text("reason"),
        _text("message"),
        _flag("cancel_requested"),
        _time("created_at", nullable=False),
        _time("finished_at"),
        sa.CheckConstraint("phase IN ('running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_runs_phase")),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_project_pipeline_id"), "runs", ["project", "pipeline", "id"])
    op.create_index("ix_runs_finished_at", "runs", ["finished_at"], postgresql_where=sa.text("finished_at IS NOT NULL"))


def _create_steps() -> None:
    op.create_table(
        "steps",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("spec", pg.JSON(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="waiting", nullable=False),
        _text("reason"),
        _text("message"),
        _count("attempt"),
        _count("retried"),
        _count("failures"),
        _time("failing_since"),
        sa.Column("inputs", pg.JSONB(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        _flag("elected"),
        sa.Column("memo", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("awaits", sa.Text(), nullable=True),
        sa.Column("outputs", pg.JSONB(), nullable=True),
        _time("started_at"),
        _time("attempt_at"),
        _time("finished_at"),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        _time("lease_until"),
        sa.CheckConstraint(
            "phase IN ('waiting', 'running', 'succeeded', 'reused', 'skipped', 'failed', 'cancelled')",
            name=op.f("ck_steps_phase"),
        ),
        sa.ForeignKeyConstraint(
            ["project", "run_id"], ["runs.project", "runs.id"], name=op.f("fk_steps_project_run_id")
        ),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_steps")),
        sa.UniqueConstraint("project", "run_id", "name", name=op.f("uq_steps_project_run_id_name")),
    )
    op.create_index(op.f("ix_steps_due_at"), "steps", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))
    op.create_index("ix_steps_awaits", "steps", ["project", "awaits"], postgresql_where=sa.text("awaits IS NOT NULL"))


def downgrade() -> None:
    for table in ("steps", "runs", "results", "pipelines"):
        op.drop_table(table)
    tables.drop_all_0001(op)
