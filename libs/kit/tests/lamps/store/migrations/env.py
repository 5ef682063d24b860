"""Alembic's entry."""

from kit import migrations
from lamps.store.tables import metadata

migrations.run(metadata)
