"""The tables of ingest, beside those that every service has (kit.tables)."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kit import leases, tables

metadata = tables.metadata_of()
tables.install(metadata)

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("settings", pg.JSONB, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.UniqueConstraint("project", "name"),
)

# Outlives its dataset: a number is never given twice, not even to a new dataset of the same name.
numbers = sa.Table(
    "numbers",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("last", sa.Integer, nullable=False),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("dataset_id", sa.Uuid, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("source_digest", sa.Text, nullable=False),
    sa.Column("source_size", sa.BigInteger, nullable=False),
    sa.Column("format", sa.Text, nullable=False),
    sa.Column("compression", sa.Text, nullable=True),
    sa.Column("settings", pg.JSONB, nullable=False),
    sa.Column("settings_digest", sa.Text, nullable=False),
    sa.Column("phase", sa.Text, nullable=False, server_default="pending"),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("message", sa.Text, nullable=False, server_default=""),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("digest", sa.Text, nullable=True),
    # The manifest: columns, counts, and the digests of shards, rejects and profile.
    sa.Column("contents", pg.JSONB, nullable=True),
    # What made it, where that was no upload of a user's.
    sa.Column("lineage", pg.JSONB(none_as_null=True), nullable=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
    *leases.columns(),
    sa.ForeignKeyConstraint(["project", "dataset_id"], ["datasets.project", "datasets.id"]),
    sa.UniqueConstraint("project", "dataset_id", "number"),
    sa.Index(None, "due_at", postgresql_where=sa.text("due_at IS NOT NULL")),
    # The same bytes and settings are one version. A failed one may be tried anew.
    sa.Index(
        None,
        "project",
        "dataset_id",
        "source_digest",
        "settings_digest",
        unique=True,
        postgresql_where=sa.text("phase <> 'failed'"),
    ),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
)

# Parts that another service brings one by one, until a version is made of them or they are given up. The row stays for
# a while, so that whoever is late brings nothing any more.
assemblies = sa.Table(
    "assemblies",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("closed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("version_id", sa.Uuid, nullable=True),
    sa.Column("touched_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
)
