"""Run by Alembic."""

from ingest.store.tables import metadata
from kit import migrations

migrations.run(metadata)
