"""One DuckDB for one source: one thread, little memory, no world outside of its own folder."""

import errno
from pathlib import Path

import duckdb

_FULL = ("No space left on device", "max_temp_directory_size")
"""How the engine says that the disk is full: when it writes a file, and when it makes room in memory."""


def open_session(work: Path, *, memory: int) -> duckdb.DuckDBPyConnection:
    """One thread and a fixed time zone, since with more the same bytes would not give the same shards."""
    spill = work / "spill"
    spill.mkdir()
    session = duckdb.connect(
        config={
            "threads": 1,
            "memory_limit": f"{memory}B",
            "temp_directory": str(spill),
            "preserve_insertion_order": True,
            "allow_community_extensions": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    session.execute("SET TimeZone = 'UTC'")
    session.execute("SET allowed_directories = ?", [[str(work)]])
    session.execute("SET enable_external_access = false")
    session.execute("SET lock_configuration = true")
    return session


def is_no_room(exc: Exception) -> bool:
    """Whether the disk is full, which is no fault of the source."""
    if isinstance(exc, OSError):
        return exc.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(words in str(exc) for words in _FULL)


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def file(path: Path) -> str:
    """A path in SQL. Ours hold no wildcard: they are made of ids."""
    return literal(str(path))
