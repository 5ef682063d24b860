"""Run by Alembic."""

from kit import migrations
from pipelines.store.tables import metadata

migrations.run(metadata)
