"""One table of our own, which is reconciled, beside those of kit."""

import sqlalchemy as sa

from kit import leases, tables

metadata = tables.metadata_of()
tables.install(metadata)

lamps = sa.Table(
    "lamps",
    metadata,
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("phase", sa.Text, nullable=False, server_default="dark"),
    *leases.columns(),
    sa.UniqueConstraint("project", "name"),
)
