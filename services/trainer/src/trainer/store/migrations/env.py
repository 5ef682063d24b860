"""Run by Alembic."""

from kit import migrations
from trainer.store.tables import metadata

migrations.run(metadata)
