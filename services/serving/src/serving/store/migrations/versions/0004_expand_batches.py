"""expand: create batches with their parts, and predictions that are answered later"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0004"
down_revision = "0003"


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _flag(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _leases() -> list[sa.Column[object]]:
    return [
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        _time("lease_until", nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
    ]


def _due(table: str) -> None:
    due = sa.text("due_at IS NOT NULL")
    op.create_index(op.f(f"ix_{table}_due_at"), table, ["due_at"], postgresql_where=due)


def upgrade() -> None:
    _create_batches()
    _create_parts()
    _create_predictions()


def _create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("targets", pg.JSONB(), nullable=False),
        sa.Column("asked", pg.JSONB(), nullable=False),
        sa.Column("pinned", pg.JSONB(), nullable=True),
        sa.Column("phase", sa.Text(), server_default="pending", nullable=False),
        _text("reason"),
        _text("message"),
        _text("hint"),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rows_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refused", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("result", pg.JSONB(), nullable=True),
        _flag("is_writing"),
        _flag("cancel_requested"),
        _flag("delete_requested"),
        _flag("is_clean"),
        _time("created_at"),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        *_leases(),
        sa.CheckConstraint(
            "phase IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("ck_batches_phase")
        ),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_batches")),
    )
    _due("batches")
    op.create_index(op.f("ix_batches_project_deployment_id"), "batches", ["project", "deployment", "id"])


def _create_parts() -> None:
    op.create_table(
        "batch_parts",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _text("message"),
        sa.Column("refused", sa.Integer(), server_default="0", nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        *_leases(),
        sa.CheckConstraint("phase IN ('waiting', 'done')", name=op.f("ck_batch_parts_phase")),
        sa.ForeignKeyConstraint(
            ["project", "batch_id"],
            ["batches.project", "batches.id"],
            name=op.f("fk_batch_parts_project_batch_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_batch_parts")),
        sa.UniqueConstraint("project", "batch_id", "position", name=op.f("uq_batch_parts_project_batch_id_position")),
    )
    _due("batch_parts")


def _create_predictions() -> None:
    op.create_table(
        "predictions",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _text("message"),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        _time("created_at"),
        _time("finished_at", nullable=True),
        *_leases(),
        sa.CheckConstraint("phase IN ('pending', 'succeeded', 'failed')", name=op.f("ck_predictions_phase")),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_predictions")),
    )
    _due("predictions")
    op.create_index(op.f("ix_predictions_created_at"), "predictions", ["created_at"])


def downgrade() -> None:
    for table in ("predictions", "batch_parts", "batches"):
        op.drop_table(table)
