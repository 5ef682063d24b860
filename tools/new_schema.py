"""A plugin for the previous release's pytest (`-p new_schema`): its databases get the tables of the release at hand.

Named by tools/upgrades.py in the environment: NEW_SCHEMA_PATH, where the new code is found; NEW_SCHEMA_LOG, a file that
gets a line for each service that was migrated; OLD_CODE, the folder that everything else must come from.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kit
from kit import migrations

MIGRATE = "import sys; from kit import migrations; migrations.upgrade(*sys.argv[1:])"
OF_MIGRATIONS = "migrat"
"""In the name of tests that are about the old migrations themselves."""


def pytest_configure() -> None:
    if not Path(kit.__file__).is_relative_to(os.environ["OLD_CODE"]):
        raise pytest.UsageError(f"this is not the previous release: {kit.__file__}")
    migrations.upgrade = upgrade


def upgrade(service: str, url: str, *, release: str | None = None) -> None:
    """What stands in for the old code's own, whatever `release` that says it is."""
    del release
    environment = {**os.environ, "PYTHONPATH": os.environ["NEW_SCHEMA_PATH"]}
    subprocess.run([sys.executable, "-c", MIGRATE, service, url], env=environment, check=True)
    with Path(os.environ["NEW_SCHEMA_LOG"]).open("a") as log:
        log.write(f"{service}\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    about = [item for item in items if OF_MIGRATIONS in item.name]
    items[:] = [item for item in items if item not in about]
    config.hook.pytest_deselected(items=about)
