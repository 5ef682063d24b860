"""A service with a history of its own, which a test makes longer or shorter: releases side by side."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from alembic import command

from kit import migrations

HERE = Path(__file__).parent

MIGRATE = """
import sys
from kit import migrations
try:
    migrations.upgrade(sys.argv[1], sys.argv[2])
except migrations.Refused as exc:
    sys.exit(str(exc))
"""


class Release:
    """The lamps' first revision, and what comes after it. Of one name there may be several: an older, a newer."""

    def __init__(self, folder: Path, name: str) -> None:
        self._package = name
        self._folder = folder
        self._versions = folder / name / "store" / "migrations" / "versions"
        self._versions.mkdir(parents=True)
        for package in (folder / name, folder / name / "store", self._versions.parent):
            (package / "__init__.py").touch()
        (self._versions.parent / "env.py").write_text(
            "from kit import migrations\nfrom kit.tables import metadata_of\n\nmigrations.run(metadata_of())\n"
        )
        lamps = HERE / "lamps" / "store" / "migrations" / "versions" / "0001_expand_create_lamps.py"
        (self._versions / lamps.name).write_text(lamps.read_text())

    def add(self, number: int, statement: str, *, needs: str | None = None) -> Path:
        """A revision that says this to the database."""
        file = self._versions / f"{number:04}_next.py"
        named = f'needs = "{needs}"' if needs else ""
        text = f'''
            """{"contract" if needs else "expand"}: next"""

            from alembic import op

            revision = "{number:04}"
            down_revision = "{number - 1:04}"
            {named}


            def upgrade() -> None:
                op.execute("{statement}")
        '''
        file.write_text(dedent(text))
        return file

    def upgrade(self, url: str, release: str = "0.1.0") -> None:
        """As `migrate` does, of a release of that number."""
        sys.path.insert(0, str(self._folder))
        try:
            migrations.upgrade(self._package, url, release=release)
        finally:
            sys.path.remove(str(self._folder))

    def stamp(self, url: str, revision: str) -> None:
        """Say that the database is there, without a change."""
        sys.path.insert(0, str(self._folder))
        try:
            command.stamp(migrations.config(self._package, url), revision)
        finally:
            sys.path.remove(str(self._folder))

    def process(self, url: str) -> "subprocess.Popen[str]":
        """The same in a process of its own."""
        paths = os.pathsep.join([str(self._folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.Popen(
            [sys.executable, "-c", MIGRATE, self._package, url],
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
