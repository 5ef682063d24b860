"""Spans on their way to a real collector: whole, or dropped and counted; and nobody waits for it."""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import REGISTRY

from kit.testing import eventually
from kit.testing_traces import Collector
from kit.trace_export import BATCH, Exporter
from kit.tracing import LONGEST, Kind, Span

TRACE = "0123456789abcdef0123456789abcdef"
OWN, PARENT = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"


def span(**said: object) -> Span:
    given: dict[str, object] = {"name": "work", "context": f"00-{TRACE}-{OWN}-01", "began": 10, "ended": 20}
    return Span(**given | said)  # type: ignore[arg-type]  # fields by their names


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("trainyard_spans_dropped_total", {"reason": reason}) or 0.0


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().running() as it:
        yield it


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """The exporter silences its library for the whole process."""
    library = logging.getLogger("opentelemetry")
    before = library.level
    yield
    library.setLevel(before)


@contextmanager
def exporting(url: str, *, seconds: float = 5, room: int = 4096, patience: float = 2) -> Iterator[Exporter]:
    exporter = Exporter("trainyard-lamps", url, room=room, patience=patience)
    try:
        yield exporter
    finally:
        exporter.close(seconds)


def test_a_span_arrives_whole(collector: Collector) -> None:
    with exporting(f"{collector.url}/") as exporter:
        exporter.put(
            span(
                parent=PARENT,
                kind=Kind.SERVER,
                error="503",
                attributes={"text": "x" * 1000, "number": 3},
                service="trainyard-job",
            )
        )
        exporter.put(span(name="own", ended=5))
    first, second = collector.spans
    assert (first.service, first.name, first.trace, first.id) == ("trainyard-job", "work", TRACE, OWN)
    assert (first.parent, first.began, first.ended, first.kind, first.failed) == (PARENT, 10, 20, 2, True)
    assert first.attributes == {"text": "x" * LONGEST, "number": "3", "error.type": "503"}
    assert (second.service, second.parent, second.kind, second.failed) == ("trainyard-lamps", "", 1, False)
    assert second.ended == second.began, "no span ends before it began"


async def test_a_collector_that_refuses_is_told_of_once_and_asked_again(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    collector.status = 400
    before = dropped("not-taken")
    with exporting(collector.url) as exporter:
        for count in (1, 2):
            exporter.put(span())
            await eventually(lambda count=count: dropped("not-taken") == before + count)  # type: ignore[misc]
        collector.status = 200
        exporter.put(span())
        await eventually(lambda: len(collector.spans) == 1)
    said = [record.message for record in caplog.records if record.name == "kit.trace_export"]
    assert said == ["traces not taken", "traces are taken again"]


async def test_what_there_is_no_room_for_is_dropped_and_counted(collector: Collector) -> None:
    collector.release.clear()
    before = dropped("no-room")
    with exporting(collector.url, room=2, patience=30) as exporter:
        exporter.put(span())
        await eventually(lambda: collector.headers)  # it is held up there
        for _ in range(3):
            exporter.put(span())
        assert dropped("no-room") == before + 1
        collector.release.set()
    assert len(collector.spans) == 3
    exporter.put(span())
    assert dropped("no-room") == before + 2, "nothing is taken by one that has ended"


def test_a_full_batch_waits_for_nothing(collector: Collector) -> None:
    with exporting(collector.url) as exporter:
        for _ in range(BATCH + 1):
            exporter.put(span())
    assert len(collector.spans) == BATCH + 1


async def test_a_collector_that_hangs_holds_up_no_end(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    collector.release.clear()
    before = dropped("no-time")
    with exporting(collector.url, seconds=0.2, patience=30) as exporter:
        exporter.put(span())
        await eventually(lambda: collector.headers)
        exporter.put(span())
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert dropped("no-time") == before + 1
    assert "traces left behind" in caplog.messages


async def test_nobody_there_costs_nothing_but_spans() -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    before = dropped("not-taken")
    with exporting(f"http://127.0.0.1:{port}", patience=0.5) as exporter:
        exporter.put(span())
        await eventually(lambda: dropped("not-taken") == before + 1)


async def test_a_span_that_cannot_be_told_stops_no_other(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    with exporting(collector.url) as exporter:
        exporter.put(span(context="00-no trace at all"))
        await eventually(lambda: "traces not sent" in caplog.messages)
        exporter.put(span())
        await eventually(lambda: len(collector.spans) == 1)


def test_a_collector_s_address_with_another_path_is_not_there(collector: Collector) -> None:
    before = dropped("not-taken")
    with exporting(f"{collector.url}/elsewhere") as exporter:
        exporter.put(span())
    assert dropped("not-taken") == before + 1
    assert collector.spans == []


def test_what_is_packed_is_taken_too(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with exporting(collector.url) as exporter:
        exporter.put(span())
    assert collector.trace_of("trainyard-lamps", "work") == TRACE
    assert len(collector.of(TRACE)) == 1
