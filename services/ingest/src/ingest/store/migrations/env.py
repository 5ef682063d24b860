"""Run by Alembic."""

from kit import migrations

from ingest.store.tables import metadata

migrations.run(metadata)
