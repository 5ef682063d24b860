"""One DuckDB for one source: one thread, little memory, no world outside of its own folder."""

from pathlib import Path

import duckdb


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


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def file(path: Path) -> str:
    """A path in SQL. Ours hold no wildcard: they are made of ids."""
    return literal(str(path))
