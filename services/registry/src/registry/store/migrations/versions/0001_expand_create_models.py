"""expand: create models, their versions, aliases and the ledger of aliases"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from kit import tables

revision = "0001"
down_revision = None


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False)


def upgrade() -> None:
    tables.create_all_0001(op)
    op.create_table(
        "models",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_models")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_models_project_name")),
    )
    op.create_table(
        "numbers",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project", "model", name=op.f("pk_numbers")),
    )
    _create_versions()
    _create_aliases()
    _create_ledger()


def _create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("manifest", pg.JSON(), nullable=False),
        _time("created_at"),
        sa.ForeignKeyConstraint(
            ["project", "model_id"], ["models.project", "models.id"], name=op.f("fk_versions_project_model_id")
        ),
        sa.PrimaryKeyConstraint("project", "id", name=op.f("pk_versions")),
        sa.UniqueConstraint("project", "model_id", "number", name=op.f("uq_versions_project_model_id_number")),
        sa.UniqueConstraint("project", "model_id", "digest", name=op.f("uq_versions_project_model_id_digest")),
    )


def _create_aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        _time("updated_at"),
        sa.ForeignKeyConstraint(
            ["project", "model_id", "number"],
            ["versions.project", "versions.model_id", "versions.number"],
            name=op.f("fk_aliases_project_model_id_number"),
        ),
        sa.PrimaryKeyConstraint("project", "model_id", "name", name=op.f("pk_aliases")),
    )
    op.create_index(op.f("ix_aliases_project_model_id_number"), "aliases", ["project", "model_id", "number"])


def _create_ledger() -> None:
    op.create_table(
        "alias_moves",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=True),
        sa.Column("from_digest", sa.Text(), nullable=True),
        sa.Column("to_version", sa.Integer(), nullable=True),
        sa.Column("to_digest", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        _time("created_at"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_alias_moves")),
    )
    op.create_index(
        op.f("ix_alias_moves_project_model_alias_number"), "alias_moves", ["project", "model", "alias", "number"]
    )
    op.execute(
        """
        create function alias_moves_only_grow() returns trigger language plpgsql as
        $$ begin raise exception 'alias_moves is append-only'; end $$
        """
    )
    op.execute(
        """
        create trigger alias_moves_only_grow before update or delete or truncate on alias_moves
        for each statement execute function alias_moves_only_grow()
        """
    )


def downgrade() -> None:
    op.drop_table("alias_moves")
    op.execute("drop function alias_moves_only_grow()")
    for table in ("aliases", "versions", "numbers", "models"):
        op.drop_table(table)
    tables.drop_all_0001(op)
