"""A version of a dataset: its states, what must be done next about one, and what its digest covers."""

import enum
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ingest.domain.reports import PARSER_VERSION, Compression, Format, Report
from ingest.domain.schema import Column
from ingest.domain.settings import DatasetSettings, digest_of
from ingest.domain.splits import Side
from kit import errors

SHOWN = 20
"""Users of a thing that a refusal names in its sentence."""
ATTEMPTS = 10
"""How often a source is tried whose parser vanishes (or whose service does) before it is given up."""


class VersionNotFound(errors.NotFound): ...


class VersionNumberNeeded(errors.Invalid): ...


class VersionHeld(errors.Conflict): ...


class VersionNotReady(errors.Conflict): ...


class ShardNotFound(errors.NotFound): ...


class UploadNotFound(errors.Invalid): ...


class UploadUnknown(errors.NotFound): ...


class UploadInUse(errors.Conflict): ...


class UploadEmpty(errors.Invalid): ...


class DigestMismatch(errors.Invalid): ...


class TooManyUploads(errors.TooMany): ...


class AssemblyClosed(errors.Conflict):
    """A version was made of these parts already, or they were given up."""


class Phase(enum.StrEnum):
    PENDING = "pending"
    PARSING = "parsing"
    READY = "ready"
    FAILED = "failed"


FINAL = frozenset({Phase.READY, Phase.FAILED})


@dataclass(frozen=True)
class Source:
    """Bytes as they were uploaded."""

    digest: str
    size: int
    format: Format
    compression: Compression | None


@dataclass(frozen=True)
class Shard:
    digest: str
    size: int
    rows: int
    split: Side


@dataclass(frozen=True)
class Contents:
    """What parsing made, by digest."""

    columns: list[Column]
    rows_in: int
    rows: int
    rejected: int
    coerced: int
    splits: dict[Side, int]
    shards: list[Shard]
    rejects: str | None
    profile: str | None


@dataclass(frozen=True, kw_only=True)
class Version:
    id: uuid.UUID
    project: str
    dataset: str
    number: int
    source: Source
    settings: DatasetSettings
    phase: Phase = Phase.PENDING
    reason: str = ""
    message: str = ""
    digest: str | None = None
    contents: Contents | None = None
    lineage: dict[str, Any] | None = None
    """What made it, where that was no upload of a user's."""
    attempts: int = 0
    generation: int = 1
    """Counts the changes of what is wanted, so that nobody records an answer to an older question."""
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def reference(self) -> str:
        return f"{self.dataset}@{self.number}"


def settings_digest(settings: DatasetSettings, source: Source, lineage: dict[str, Any] | None = None) -> str:
    """Names everything beside the bytes that tells two versions apart: what says where it is from says it of one."""
    document = {
        "settings": settings.document(),
        "format": source.format.value,
        "compression": source.compression.value if source.compression else None,
        "parser": PARSER_VERSION,
    }
    return digest_of(document if lineage is None else document | {"lineage": lineage})


def version_digest(settings: DatasetSettings, contents: Contents) -> str:
    """The digest of a version: the shards, the schema and the settings; no times, no ids, not where it came from."""
    manifest: dict[str, Any] = {
        "parser": PARSER_VERSION,
        "schema": [{"name": column.name, "type": column.type.value} for column in contents.columns],
        "settings": settings.document(),
        "shards": [{"digest": s.digest, "rows": s.rows, "split": s.split} for s in contents.shards],
    }
    return digest_of(manifest)


@dataclass(frozen=True)
class Parse: ...


@dataclass(frozen=True)
class Fail:
    reason: str
    message: str


@dataclass(frozen=True)
class Wait: ...


Step = Parse | Fail | Wait


def next_step(version: Version) -> Step:
    match version:
        case Version(phase=phase) if phase in FINAL:
            return Wait()
        case Version(attempts=attempts) if attempts >= ATTEMPTS:
            return Fail("parser-lost", f"The parser vanished {attempts} times while it read this source.")
        case _:
            return Parse()


@dataclass(frozen=True)
class Ended:
    """How the parser child ended."""

    code: int | None
    reason: Literal["memory", "deadline", "output"] | None
    """Why it was ended by us, if it was."""
    report: Report | None
    said: str = ""
    """The end of what it wrote to standard error: for the log alone, since it read strangers' bytes."""


class ParserVanished(Exception):
    """The child ended without a report, and not by our hand: it is tried again."""


class NoRoom(Exception):
    """The work disk is full: it is tried again, as often as it takes."""


def judge(ended: Ended) -> Report:
    """The report of a child, or the one that its end amounts to.

    Raises:
        ParserVanished: nothing can be said about the source.
        NoRoom: neither, since the disk was full.
    """
    match ended:
        case Ended(reason="memory"):
            return Report(
                outcome="refused", reason="out-of-memory", message="Reading the source takes too much memory."
            )
        case Ended(reason="deadline"):
            return Report(outcome="refused", reason="deadline", message="Reading the source takes too long.")
        case Ended(reason="output"):
            return Report(outcome="refused", reason="unreadable", message="The parser said more than it may.")
        case Ended(code=0, report=Report(outcome="no-room")):
            raise NoRoom
        case Ended(code=0, report=Report() as report):
            return report
        case _:
            raise ParserVanished(f"exit code {ended.code}: {ended.said}")


_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """Which version: exactly one of the two, or neither for the newest ready one."""

    number: int | None = None
    digest: str | None = None


def reference_of(text: str) -> Reference:
    """Read `3`, `latest` or `sha256:…`.

    Raises:
        VersionNotFound: it is none of these, so nothing has that name.
    """
    if text == "latest":
        return Reference()
    if _NUMBER.fullmatch(text):
        return Reference(number=int(text))
    if _DIGEST.fullmatch(text):
        return Reference(digest=text)
    raise VersionNotFound(f"{text[:100]!r} is not a version: say a number, `latest` or a digest.")


def numbered(text: str) -> Reference:
    """Read `3`, to delete it: another name may be another version's when the request is sent again.

    Raises:
        VersionNumberNeeded: it is no number.
    """
    if _NUMBER.fullmatch(text):
        return Reference(number=int(text))
    raise VersionNumberNeeded(f"{text[:100]!r} may be another version a moment later: say the number of this one.")


def split_reference(text: str) -> tuple[str, Reference]:
    """Read `name`, `name@3` or `name@sha256:…`."""
    name, _, version = text.partition("@")
    return name, reference_of(version or "latest")


def in_use(users: Sequence[str]) -> str:
    """The end of a sentence that names them."""
    more = f" and {len(users) - SHOWN} more" if len(users) > SHOWN else ""
    return f"in use by {', '.join(users[:SHOWN])}{more}"
