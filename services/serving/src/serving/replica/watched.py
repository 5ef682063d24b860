"""Metrics of what answers here, read from its tallies when somebody asks for them: they cost no request anything.

Series are of the revisions that answer now, so they cannot grow without end. `TRITON` are the same numbers by the names
that dashboards of Triton know.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from serving.domain.spreads import COUNTS, SECONDS, Spread
from serving.replica.table import Live, Table
from serving.replica.tallies import Tally

MICROSECONDS = 10**6
TRITON: dict[str, tuple[str, Callable[[Tally], float]]] = {
    "nv_inference_request_success": ("Requests answered.", lambda it: it.requests),
    "nv_inference_request_failure": ("Predictions not made.", lambda it: it.failed),
    "nv_inference_count": ("Rows answered.", lambda it: it.rows),
    "nv_inference_exec_count": ("Batches that the model answered.", lambda it: it.executions),
    "nv_inference_request_duration_us": ("Of requests that were answered.", lambda it: it.took.sum * MICROSECONDS),
    "nv_inference_queue_duration_us": ("That these waited.", lambda it: it.queued.sum * MICROSECONDS),
    "nv_inference_compute_input_duration_us": ("To read them.", lambda it: it.read_seconds * MICROSECONDS),
    "nv_inference_compute_infer_duration_us": ("To answer them.", lambda it: it.compute_seconds * MICROSECONDS),
    "nv_inference_compute_output_duration_us": ("To write the answers.", lambda it: it.write_seconds * MICROSECONDS),
}


class Watched(Collector):
    """Of all tables of this process; there is one, but in tests."""

    def __init__(self) -> None:
        self._tables: list[tuple[Table, bool]] = []

    @contextmanager
    def watching(self, table: Table, *, triton: bool = False) -> Iterator[None]:
        """Its metrics are shown meanwhile; by Triton's names too, if that is asked for."""
        entry = (table, triton)
        self._tables.append(entry)
        try:
            yield
        finally:
            self._tables.remove(entry)

    def describe(self) -> Iterable[Metric]:
        """Nothing that would have to be looked up before there is something."""
        return []

    def collect(self) -> Iterable[Metric]:
        """All of them, as they are now."""
        lives = {live.labels: live for table, _ in self._tables for live in table}
        yield from _own(list(lives.values()))
        if any(triton for _, triton in self._tables):
            yield from _triton(live for table, triton in self._tables if triton for live in table)


def _own(lives: list[Live]) -> Iterator[Metric]:
    seconds = HistogramMetricFamily(
        "trainyard_predict_seconds",
        "From the read body to the answer, by who answered.",
        labels=["project", "deployment", "revision"],
    )
    queued = HistogramMetricFamily(
        "trainyard_predict_queue_seconds",
        "That requests waited for their model, before it began.",
        labels=["project", "deployment", "revision"],
    )
    computed = HistogramMetricFamily(
        "trainyard_predict_compute_seconds",
        "That the model took for a batch.",
        labels=["project", "deployment", "revision"],
    )
    rows = HistogramMetricFamily(
        "trainyard_predict_batch_rows",
        "Rows that the model was asked for at once.",
        labels=["project", "deployment", "revision"],
    )
    requests = HistogramMetricFamily(
        "trainyard_predict_batch_requests",
        "Requests that these rows were of.",
        labels=["project", "deployment", "revision"],
    )
    for live in lives:
        tallies = [one.tally for one in live.answering]
        _add(seconds, live.labels, Spread.of((it.took for it in tallies), SECONDS))
        _add(queued, live.labels, Spread.of((it.queued for it in tallies), SECONDS))
        _add(computed, live.labels, Spread.of((it.computed for it in tallies), SECONDS))
        _add(rows, live.labels, Spread.of((it.batch_rows for it in tallies), COUNTS))
        _add(requests, live.labels, Spread.of((it.batch_requests for it in tallies), COUNTS))
    yield from (seconds, queued, computed, rows, requests)
    yield from _counters(lives)


def _counters(lives: list[Live]) -> Iterator[Metric]:
    rows = CounterMetricFamily(
        "trainyard_predicted_rows_total", "Rows answered.", labels=["project", "deployment", "revision"]
    )
    refused = CounterMetricFamily(
        "trainyard_predict_refused_total", "Predictions not made.", labels=["project", "deployment", "revision"]
    )
    bytes_held = GaugeMetricFamily(
        "trainyard_resident_bytes", "Memory of the models that answer, each counted once, as far as it is known."
    )
    for live in lives:
        rows.add_metric(live.labels, sum(one.tally.rows for one in live.answering))
        refused.add_metric(live.labels, sum(one.tally.failed for one in live.answering))
    residents = {id(one.resident): one.resident for live in lives for one in live.answering}
    bytes_held.add_metric([], sum(it.bytes for it in residents.values()))
    yield from (rows, refused, bytes_held)


def _triton(lives: Iterable[Live]) -> Iterator[Metric]:
    """Two versions of one number, of different models, are one series: Triton knows no more of a version."""
    of: defaultdict[tuple[str, str, str], list[Tally]] = defaultdict(list)
    for live in lives:
        for one in live.answering:
            of[live.desired.name, str(one.target.version), live.desired.project].append(one.tally)
    for name, (means, value) in TRITON.items():
        # Not a counter: its series would have to end in `_total`, and Triton's do not.
        family = Metric(name, means, "unknown")
        for (model, version, project), tallies in of.items():
            labels = {"model": model, "version": version, "project": project}
            family.add_sample(name, labels, sum(value(it) for it in tallies))
        yield family


def _add(family: HistogramMetricFamily, labels: tuple[str, str, str], spread: Spread) -> None:
    counts = [(str(floatToGoString(bound)), count) for bound, count in spread.below()]  # type: ignore[no-untyped-call]
    family.add_metric(labels, counts, spread.sum)


WATCHED = Watched()
REGISTRY.register(WATCHED)
