"""Which statements of a migration the previous release would notice.

An `expand:` revision runs while the previous release still works on the same tables, and stays when that release is
rolled back to. So it may only add what a release that knows nothing of it can leave alone, and must not hold a table
for long. What is not known to be harmless is refused: it belongs in a `contract:` revision, a release later.
"""

import re
from collections.abc import Iterator, Sequence

_NAME = r'(?:"?\w+"?\.)?"?(\w+)"?'
_TABLE = re.compile(rf"create table (?:if not exists )?{_NAME}")
_INDEX = re.compile(rf"create (unique )?index (concurrently )?(?:if not exists )?{_NAME} on {_NAME}")
_ALTER = re.compile(rf"alter table (?:if exists )?(?:only )?{_NAME} (.+)")
_TRIGGER = re.compile(rf"create (?:or replace )?trigger \w+ .*? on {_NAME} ")
_DROPPED = re.compile(r"drop constraint (?:if exists )?\"?(\w+)\"?")
_ADDED = re.compile(r"add constraint \"?(\w+)\"? (check|foreign key|unique|primary key)")
# A default that differs from row to row is written into all of them, with the table closed.
_VOLATILE = re.compile(r"\b(clock_timestamp|gen_random_uuid|uuidv[47]|random|nextval|timeofday)\(")
_HARMLESS = re.compile(
    r"(select|show|set local|set|comment on|create (or replace )?function|create sequence|create schema"
    r"|insert into (\w+\.)?alembic_version|update (\w+\.)?alembic_version|create table (\w+\.)?alembic_version)\b"
)


def noticed(statements: Sequence[str]) -> list[str]:
    """What an expand revision must not do, with the statement that does it. Pure: no database is asked."""
    plain = [_plain(it) for it in statements]
    new = {found[1] for it in plain if (found := _TABLE.match(it))}
    dropped = {found[1] for it in plain if it.startswith("alter table") for found in _DROPPED.finditer(it)}
    return [f"{why}: {it[:150]}" for it in plain for why in _noticed(it, new, dropped)]


def _plain(statement: str) -> str:
    return " ".join(re.sub(r"--[^\n]*", " ", statement).split()).rstrip("; ").lower()


def _noticed(statement: str, new: set[str], dropped: set[str]) -> Iterator[str]:
    if not statement or _TABLE.match(statement) or _HARMLESS.match(statement):
        return
    if found := _INDEX.match(statement):
        unique, concurrently, _, table = found.groups()
        if table not in new and unique:
            yield "a unique index on a table that is there refuses what the previous release writes"
        elif table not in new and not concurrently:
            yield "an index made without `concurrently` keeps everybody from writing to the table"
    elif found := _TRIGGER.match(statement):
        if found[1] not in new:
            yield "a trigger on a table that is there acts on what the previous release writes"
    elif found := _ALTER.match(statement):
        if found[1] not in new:
            # Commas between parentheses belong to one action.
            for action in re.split(r",(?![^(]*\)) *", found[2]):
                yield from _altered(action, dropped)
    else:
        yield "not known to be harmless"


def _altered(action: str, dropped: set[str]) -> Iterator[str]:
    added = _ADDED.match(action)
    if action.startswith("add constraint") and added:
        name, kind = added.groups()
        if kind != "check" or name not in dropped:
            yield "a new constraint on a table that is there refuses what the previous release writes"
        elif not action.endswith("not valid"):
            yield "a constraint that is not `not valid` reads the whole table while it is closed"
    elif action.startswith("add "):
        if "not null" in action and " default " not in action and " generated " not in action:
            yield "a column that must be given is one that the previous release does not give"
        if " generated " in action or _VOLATILE.search(action):
            yield "a value that differs from row to row is written into all of them while the table is closed"
        if re.search(r"\b(unique|primary key|check|references)\b", action):
            yield "a new constraint on a table that is there refuses what the previous release writes"
    elif found := _DROPPED.match(action):
        if not found[1].startswith("ck_"):
            yield "a constraint that the previous release may rely on is dropped"
    elif not re.match(r"alter (column )?\S+ (drop not null|set default)|validate constraint", action):
        yield "what the previous release uses is dropped, renamed or changed"
