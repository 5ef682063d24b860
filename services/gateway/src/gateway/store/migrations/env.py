"""Run by Alembic."""

from gateway.store.tables import metadata
from kit import migrations

migrations.run(metadata)
