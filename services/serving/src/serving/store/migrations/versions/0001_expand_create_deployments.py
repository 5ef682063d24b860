"""expand: create deployments, their revisions, and what replicas observe"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from kit import tables

revision = "0001"
down_revision = None


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    default = None if nullable else sa.func.clock_timestamp()
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _texts(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Text(), server_default="", nullable=False) for name in names]


def _of_deployment(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_project_deployment_id")
    return sa.ForeignKeyConstraint(["project", "deployment_id"], ["deployments.project", "deployments.id"], name=name)


def upgrade() -> None:
    tables.create_all_0001(op)
    _create_deployments()
    op.create_table(
        "revisions",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("targets", pg.JSONB(), nullable=False),
        _time("created_at"),
        _of_deployment("revisions"),
        sa.PrimaryKeyConstraint("project", "deployment_id", "number", name=op.f("pk_revisions")),
    )
    op.create_table(
        "held",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        _time("released_at", nullable=True),
        _of_deployment("held"),
        sa.PrimaryKeyConstraint("project", "deployment_id", "ref", name=op.f("pk_held")),
    )
    _create_replicas()


def _create_deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("models", pg.JSONB(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="pending", nullable=False),
        *_texts("reason", "message"),
        sa.Column("observed_generation", sa.Integer(), server_default="0", nullable=False),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("nudges", sa.BigInteger(), server_default="0", nullable=False),
        _time("created_at"),
        _time("updated_at"),
        _time("removed_at", nullable=True),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        _time("lease_until", nullable=True),
        sa.CheckConstraint("phase IN ('pending', 'ready', 'failed')", name=op.f("ck_deployments_phase")),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_deployments")),
    )
    op.create_index(
        "uq_deployments_name",
        "deployments",
        ["project", "name"],
        unique=True,
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    due = sa.text("due_at IS NOT NULL")
    op.create_index(op.f("ix_deployments_due_at"), "deployments", ["due_at"], postgresql_where=due)


def _create_replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("boot", sa.Uuid(), nullable=False),
        _time("seen_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replicas")),
    )
    op.create_table(
        "observations",
        sa.Column("replica_id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("tried", sa.Integer(), nullable=True),
        sa.Column("serving", sa.Integer(), nullable=True),
        *_texts("reason", "message"),
        _time("observed_at"),
        sa.ForeignKeyConstraint(
            ["replica_id"], ["replicas.id"], name=op.f("fk_observations_replica_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("replica_id", "project", "deployment_id", name=op.f("pk_observations")),
    )
    index = op.f("ix_observations_project_deployment_id")
    op.create_index(index, "observations", ["project", "deployment_id"])


def downgrade() -> None:
    for table in ("observations", "replicas", "held", "revisions", "deployments"):
        op.drop_table(table)
    tables.drop_all_0001(op)
