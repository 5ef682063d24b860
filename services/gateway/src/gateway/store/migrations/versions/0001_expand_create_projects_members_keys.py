"""expand: create projects, their members and API keys"""

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
        "projects",
        sa.Column("name", sa.Text(), nullable=False),
        _created_at(),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("made_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["made_by"], ["projects.name"], name=op.f("fk_projects_made_by")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_projects")),
    )
    op.create_index(op.f("ix_projects_made_by"), "projects", ["made_by"])
    op.create_table(
        "members",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        _created_at(),
        sa.CheckConstraint("role IN ('viewer', 'editor', 'admin')", name=op.f("ck_members_role")),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_members_project")),
        sa.PrimaryKeyConstraint("project", "subject", name=op.f("pk_members")),
    )
    op.create_index(op.f("ix_members_subject"), "members", ["subject"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("scopes", pg.ARRAY(sa.Text()), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        _created_at(),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'editor', 'admin')", name=op.f("ck_api_keys_role")),
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f("ck_api_keys_digest")),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_api_keys_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_project_created_at_id"), "api_keys", ["project", "created_at", "id"])


def downgrade() -> None:
    op.drop_table("api_keys")
    op.drop_table("members")
    op.drop_table("projects")
    tables.drop_all_0001(op)
