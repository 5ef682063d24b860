"""Run by Alembic."""

from kit import migrations
from registry.store.tables import metadata

migrations.run(metadata)
