"""The tables of the registry, beside those that every service has (kit.tables)."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kit import tables

metadata = tables.metadata_of()
tables.install(metadata)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp())


models = sa.Table(
    "models",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    _time("created_at"),
    sa.UniqueConstraint("project", "name"),
)

# Outlives its model: a number is never given twice, not even to a new model of the same name.
numbers = sa.Table(
    "numbers",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("last", sa.Integer, nullable=False),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("model_id", sa.Uuid, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    # Not JSONB: that one writes numbers anew, and a manifest must read back as it was registered.
    sa.Column("manifest", pg.JSON, nullable=False),
    # Envelopes (kit.attestations), each of another key.
    sa.Column("attestations", pg.JSON, nullable=False, server_default=sa.text("'[]'")),
    _time("created_at"),
    sa.ForeignKeyConstraint(["project", "model_id"], ["models.project", "models.id"]),
    sa.UniqueConstraint("project", "model_id", "number"),
    sa.UniqueConstraint("project", "model_id", "digest"),
)

aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("model_id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    _time("updated_at"),
    # The database itself refuses an alias without a version, and the deletion of a version with an alias.
    sa.ForeignKeyConstraint(
        ["project", "model_id", "number"], ["versions.project", "versions.model_id", "versions.number"]
    ),
    sa.Index(None, "project", "model_id", "number"),
)

# The ledger. Append-only: a trigger refuses everything else. It outlives models, as their numbers do.
alias_moves = sa.Table(
    "alias_moves",
    metadata,
    sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("alias", sa.Text, nullable=False),
    sa.Column("from_version", sa.Integer, nullable=True),
    sa.Column("from_digest", sa.Text, nullable=True),
    sa.Column("to_version", sa.Integer, nullable=True),
    sa.Column("to_digest", sa.Text, nullable=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("issuer", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=True),
    _time("created_at"),
    sa.Index(None, "project", "model", "alias", "number"),
)
