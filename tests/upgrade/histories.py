"""The migrations of every service, and what each of them says to the database."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.script import Script, ScriptDirectory

from kit import migrations

KINDS = ("expand", "contract")


@dataclass(frozen=True)
class Step:
    """One revision, and the statements that its way up was."""

    revision: str
    message: str
    needs: str | None
    """Of a contract: the oldest release that works without what is taken away."""
    statements: Sequence[str]

    @property
    def kind(self) -> str:
        return self.message.partition(":")[0]


def scripts(service: str) -> list[Script]:
    """The oldest first."""
    directory = ScriptDirectory.from_config(migrations.config(service, "postgresql://"))
    return list(reversed(list(directory.walk_revisions())))


def heads(service: str) -> Sequence[str]:
    return ScriptDirectory.from_config(migrations.config(service, "postgresql://")).get_heads()


def steps(service: str, url: str) -> list[Step]:
    """Take an empty database up, one revision at a time."""
    found = []
    for script in scripts(service):
        with _recorded() as statements:
            command.upgrade(migrations.config(service, url), script.revision)
        needs = getattr(script.module, "needs", None)
        found.append(Step(script.revision, script.doc, needs, statements))
    return found


@contextlib.contextmanager
def _recorded() -> Iterator[list[str]]:
    statements: list[str] = []

    # Of every engine: a migration makes one of its own.
    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # What the dialect and Alembic ask, and the lock, are not of the revision.
        if not statement.lower().lstrip().startswith(("select", "show")):
            statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", record)
