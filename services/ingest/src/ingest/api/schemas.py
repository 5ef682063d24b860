"""The wire of ingest."""

from datetime import datetime
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from ingest.domain.datasets import NAME, Dataset
from ingest.domain.reports import Compression, Format
from ingest.domain.settings import ColumnSpec, DatasetSettings
from ingest.domain.splits import Side
from ingest.domain.versions import Phase, Shard, Version

T = TypeVar("T")


def _named(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            "a name has 1 to 63 characters a-z, 0-9, '.', '_' and '-', and begins and ends with one of a-z0-9"
        )
    return value


Name = Annotated[str, AfterValidator(_named)]
Digest = Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$")]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DatasetIn(_In):
    name: Name
    settings: DatasetSettings = DatasetSettings()


class SettingsIn(_In):
    settings: DatasetSettings


class VersionIn(_In):
    """A version from an upload. A body of CSV, NDJSON or Parquet makes one directly."""

    upload: Digest
    format: Format = Format.CSV
    compression: Compression | None = None


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_page_token: str | None


class DatasetOut(BaseModel):
    name: str
    settings: DatasetSettings
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        return cls(
            name=dataset.name,
            settings=dataset.settings,
            created_at=dataset.created_at,
            updated_at=dataset.updated_at,
        )


class UploadOut(BaseModel):
    upload: str
    size: int


class StatusOut(BaseModel):
    phase: Phase
    reason: str
    message: str


class SourceOut(BaseModel):
    upload: str
    format: Format
    compression: Compression | None


class VersionOut(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    dataset: str
    version: int
    digest: str | None
    status: StatusOut
    columns: Annotated[list[ColumnSpec], Field(serialization_alias="schema")]
    rows: int
    rejected: int
    rows_in: int
    coerced: int
    """Values that policy `coerce` turned into nulls."""
    splits: dict[Side, int]
    settings: DatasetSettings
    source: SourceOut
    lineage: dict[str, Any] | None
    """What made it, where that was no upload of a user's."""
    created_at: datetime
    finished_at: datetime | None
    reused_from: int | None = None
    """Set in the answer to a POST whose bytes and settings had made a version before: that version."""

    @classmethod
    def of(cls, version: Version, *, reused: bool = False) -> Self:
        made = version.contents
        return cls(
            dataset=version.dataset,
            version=version.number,
            digest=version.digest,
            status=StatusOut(phase=version.phase, reason=version.reason, message=version.message),
            columns=[ColumnSpec(name=column.name, type=column.type) for column in made.columns] if made else [],
            rows=made.rows if made else 0,
            rejected=made.rejected if made else 0,
            rows_in=made.rows_in if made else 0,
            coerced=made.coerced if made else 0,
            splits=made.splits if made else {},
            settings=version.settings,
            source=SourceOut(
                upload=version.source.digest, format=version.source.format, compression=version.source.compression
            ),
            lineage=version.lineage,
            created_at=version.created_at,
            finished_at=version.finished_at,
            reused_from=version.number if reused else None,
        )


class ShardOut(BaseModel):
    digest: str
    rows: int
    size: int
    split: Side

    @classmethod
    def of(cls, shard: Shard) -> Self:
        return cls(digest=shard.digest, rows=shard.rows, size=shard.size, split=shard.split)


class ShardsOut(BaseModel):
    """All that reading a version takes: `GET …/shards/{digest}` answers each as Parquet."""

    model_config = ConfigDict(serialize_by_alias=True)

    digest: str
    columns: Annotated[list[ColumnSpec], Field(serialization_alias="schema")]
    shards: list[ShardOut]


class RejectOut(BaseModel):
    line: int
    """From 1, the header included; of Parquet, the row."""
    column: str | None
    reason: str
    detail: str
    raw: str
    """The first 200 characters of the line."""


Row = dict[str, Any]
