"""Versions: what happens next, what a child's end means, and names."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.domain.reports import Compression, Format, Report
from ingest.domain.schema import Column, ColumnType
from ingest.domain.settings import DatasetSettings
from ingest.domain.versions import (
    ATTEMPTS,
    Contents,
    Ended,
    Fail,
    NoRoom,
    Parse,
    ParserVanished,
    Phase,
    Reference,
    Shard,
    Source,
    Step,
    Version,
    VersionNotFound,
    VersionNumberNeeded,
    Wait,
    in_use,
    judge,
    next_step,
    numbered,
    reference_of,
    settings_digest,
    split_reference,
    version_digest,
)
from kit.ids import uuid7

SOURCE = Source("sha256:" + "a" * 64, 10, Format.CSV, None)
REPORT = Report(outcome="ready")


def version(**given: Any) -> Version:
    return Version(
        id=uuid7(),
        project="blue",
        dataset="flights",
        number=3,
        source=SOURCE,
        settings=DatasetSettings(),
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
        **given,
    )


STEPS: dict[str, tuple[Version, Step]] = {
    "a pending version is parsed": (version(), Parse()),
    "one whose parser went away is parsed again": (version(phase=Phase.PARSING, attempts=ATTEMPTS - 1), Parse()),
    "a ready one is left alone": (version(phase=Phase.READY), Wait()),
    "a failed one is left alone, whatever it took": (version(phase=Phase.FAILED, attempts=ATTEMPTS), Wait()),
    "one that takes every parser down is given up": (
        version(phase=Phase.PARSING, attempts=ATTEMPTS),
        Fail("parser-lost", f"The parser vanished {ATTEMPTS} times while it read this source."),
    ),
}


@pytest.mark.parametrize(("seen", "want"), STEPS.values(), ids=STEPS.keys())
def test_next_step(seen: Version, want: Step) -> None:
    assert next_step(seen) == want


@pytest.mark.parametrize(
    ("reason", "says"), [("memory", "out-of-memory"), ("deadline", "deadline"), ("output", "unreadable")]
)
def test_a_child_that_we_ended_says_so_of_its_source(reason: Any, says: str) -> None:
    report = judge(Ended(code=-9, reason=reason, report=None))
    assert (report.outcome, report.reason) == ("refused", says)


def test_a_child_that_reported_is_believed() -> None:
    assert judge(Ended(code=0, reason=None, report=REPORT)) is REPORT


@pytest.mark.parametrize("ended", [Ended(-9, None, None), Ended(1, None, REPORT), Ended(0, None, None)])
def test_a_child_that_vanished_says_nothing_of_its_source(ended: Ended) -> None:
    with pytest.raises(ParserVanished):
        judge(ended)


def test_a_full_disk_says_nothing_of_its_source() -> None:
    with pytest.raises(NoRoom):
        judge(Ended(0, None, Report(outcome="no-room")))


def test_what_a_report_says_can_be_stored_and_shown() -> None:
    report = Report(outcome="refused", message="Line 2: 'a\0b\x1b[31m\ud800' é" + "x" * 2000)
    assert report.message.startswith("Line 2: 'a\ufffdb\ufffd[31m\ufffd' é")
    assert len(report.message) == 1000


def test_a_version_is_named_with_its_dataset() -> None:
    assert version().reference == "flights@3"


REFERENCES = {
    "latest": Reference(),
    "3": Reference(number=3),
    "sha256:" + "0" * 64: Reference(digest="sha256:" + "0" * 64),
}


@pytest.mark.parametrize(("text", "want"), REFERENCES.items())
def test_references(text: str, want: Reference) -> None:
    assert reference_of(text) == want
    assert split_reference(f"flights@{text}") == ("flights", want)


def test_a_bare_name_is_its_newest_version() -> None:
    assert split_reference("flights") == ("flights", Reference())


@pytest.mark.parametrize("text", ["", "0", "-1", "03", "1.0", "٣", "newest", "sha256:abc", "9" * 10])
def test_what_is_no_reference_is_not_found(text: str) -> None:
    with pytest.raises(VersionNotFound):
        reference_of(text)


CONTENTS = Contents(
    columns=[Column("a", ColumnType.INTEGER)],
    rows_in=3,
    rows=2,
    rejected=1,
    coerced=0,
    splits={"train": 2, "held_out": 0},
    shards=[Shard("sha256:" + "b" * 64, 100, 2, "train")],
    rejects="sha256:" + "c" * 64,
    profile="sha256:" + "d" * 64,
)


def test_a_versions_digest_covers_shards_schema_and_settings() -> None:
    digest = version_digest(DatasetSettings(), CONTENTS)
    others = [
        version_digest(DatasetSettings(nulls=["NA"]), CONTENTS),
        version_digest(DatasetSettings(), replace(CONTENTS, columns=[Column("a", ColumnType.NUMBER)])),
        version_digest(DatasetSettings(), replace(CONTENTS, shards=[])),
    ]
    assert digest not in others
    assert digest == version_digest(DatasetSettings(), replace(CONTENTS, profile=None, rejects=None))


def test_what_decides_a_version_beside_its_bytes_has_a_digest() -> None:
    digest = settings_digest(DatasetSettings(), SOURCE)
    assert digest == settings_digest(DatasetSettings(), replace(SOURCE, digest="sha256:" + "e" * 64))
    assert digest != settings_digest(DatasetSettings(), replace(SOURCE, format=Format.PARQUET))
    assert digest != settings_digest(DatasetSettings(), replace(SOURCE, compression=Compression.GZIP))
    assert digest != settings_digest(DatasetSettings(key=["a"]), SOURCE)


def test_only_a_number_names_what_is_deleted() -> None:
    assert numbered("3") == Reference(number=3)
    for text in ("latest", "champion", "sha256:" + "0" * 64, "", "0", "03"):
        with pytest.raises(VersionNumberNeeded):
            numbered(text)


def test_a_refusal_names_the_first_users() -> None:
    assert in_use(["job:1", "job:2"]) == "in use by job:1, job:2"
    assert in_use([f"job:{number}" for number in range(22)]).endswith("job:19 and 2 more")
