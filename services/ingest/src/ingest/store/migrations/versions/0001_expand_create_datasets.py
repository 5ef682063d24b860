"""expand: create datasets and their versions"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from kit import tables

revision = "0001"
down_revision = None


def _created_at() -> sa.Column[object]:
    return sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False)


def upgrade() -> None:
    tables.create_all_0001(op)
    op.create_table(
        "datasets",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("settings", pg.JSONB(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        _created_at(),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_datasets_project_name")),
    )
    op.create_table(
        "numbers",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project", "dataset", name=op.f("pk_numbers")),
    )
    op.create_table(
        "uploads",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("project", "digest", name=op.f("pk_uploads")),
    )
    _create_versions()


def _create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("source_digest", sa.Text(), nullable=False),
        sa.Column("source_size", sa.BigInteger(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("compression", sa.Text(), nullable=True),
        sa.Column("settings", pg.JSONB(), nullable=False),
        sa.Column("settings_digest", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="pending", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("contents", pg.JSONB(), nullable=True),
        _created_at(),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project", "dataset_id"],
            ["datasets.project", "datasets.id"],
            name=op.f("fk_versions_project_dataset_id"),
        ),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_versions")),
        sa.UniqueConstraint("project", "dataset_id", "number", name=op.f("uq_versions_project_dataset_id_number")),
    )
    op.create_index(op.f("ix_versions_due_at"), "versions", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))
    op.create_index(
        op.f("ix_versions_project_dataset_id_source_digest_settings_digest"),
        "versions",
        ["project", "dataset_id", "source_digest", "settings_digest"],
        unique=True,
        postgresql_where=sa.text("phase <> 'failed'"),
    )


def downgrade() -> None:
    for table in ("versions", "uploads", "numbers", "datasets"):
        op.drop_table(table)
    tables.drop_all_0001(op)
