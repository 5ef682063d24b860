"""The gateway's tables. Their schema is what the migrations make."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kit import tables

metadata = tables.metadata_of()
tables.install(metadata)


def _created_at() -> sa.Column[object]:
    return sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp())


projects = sa.Table(
    "projects",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    _created_at(),
    # A deleted project keeps its name: nobody who takes it later may find what the services still have of it.
    sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
    # The project whose admin made it, and whose admins may therefore administer it; none for the first.
    sa.Column("made_by", sa.Text, sa.ForeignKey("projects.name"), nullable=True),
    sa.Index(None, "made_by"),
)

members = sa.Table(
    "members",
    metadata,
    sa.Column("project", sa.Text, sa.ForeignKey("projects.name"), primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    _created_at(),
    sa.CheckConstraint("role IN ('viewer', 'editor', 'admin')", name="role"),
    sa.Index(None, "subject"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("project", sa.Text, sa.ForeignKey("projects.name"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("scopes", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    _created_at(),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
    sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("role IN ('viewer', 'editor', 'admin')", name="role"),
    sa.CheckConstraint("octet_length(digest) = 32", name="digest"),
    sa.Index(None, "project", "created_at", "id"),
)
