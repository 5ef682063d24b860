"""What the service tells its parser child, and what the child reports. JSON both ways."""

import enum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from ingest.domain.settings import ColumnSpec, DatasetSettings
from ingest.domain.splits import Side

PARSER_VERSION = 1
"""Part of every version's digest: raise it whenever the same bytes and settings would give other shards."""


class Format(enum.StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


class Compression(enum.StrEnum):
    GZIP = "gzip"
    ZSTD = "zstd"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Model):
    """How much a source may make of itself."""

    unpacked: int = 16 << 30
    """Bytes after decompression."""
    ratio: int = 200
    """Unpacked bytes for each packed one, beyond `ratio_floor` bytes."""
    ratio_floor: int = 256 << 20
    columns: int = 500
    cell: int = 1 << 20
    rejects: int = 200_000
    """How many rejected places are kept; all are counted."""
    memory: int = 256 << 20
    """Bytes that the engine may hold before it spills to disk."""


class Task(_Model):
    source: Path
    out: Path
    """An empty folder: whatever the parser makes is here."""
    format: Format
    compression: Compression | None
    settings: DatasetSettings
    limits: Limits = Limits()


class ShardFile(_Model):
    path: str
    rows: int
    split: Side


def printable(text: str) -> str:
    """At most 1,000 characters that every database and terminal takes: what a source says may hold anything."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text[:1000])


class Report(_Model):
    outcome: Literal["ready", "refused", "no-room"]
    """`no-room`: the disk was full, which says nothing about the source."""
    reason: str = ""
    message: Annotated[str, AfterValidator(printable)] = ""
    columns: list[ColumnSpec] = []
    rows_in: int = 0
    rows: int = 0
    rejected: int = 0
    coerced: int = 0
    splits: dict[Side, int] = {}
    shards: list[ShardFile] = []
    rejects: str | None = None
    profile: str | None = None


class Refused(Exception):
    """The source cannot become a version, and never will with these settings."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
