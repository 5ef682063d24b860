"""Alembic's entry."""

from kit import migrations
from lamps.store.tables import metadata  # type: ignore[import-not-found]  # of the tests, not installed

migrations.run(metadata)
