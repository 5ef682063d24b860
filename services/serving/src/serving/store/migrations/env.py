"""Run by Alembic."""

from kit import migrations
from serving.store.tables import metadata

migrations.run(metadata)
