"""Counters and histograms for what happens at every request: they are added to without a lock, and add up when asked.

`inc` and `observe` take a lock for each of their parts, and look for a bucket from the first one on: some
microseconds, of the few that a small request may cost. What is given to `add` is put aside and added up by the hundred,
or when somebody looks. One thread adds, which is the one of the event loop; any may look.
"""

from bisect import bisect_right
from collections.abc import Iterable

import prometheus_client
from prometheus_client.samples import Sample

MOST = 512
"""That is put aside at one time."""


class Counter(prometheus_client.Counter):
    """One that takes `add` too."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._aside = 0.0

    def add(self, amount: float = 1) -> None:
        """Count, from the thread of the event loop."""
        self._aside += amount

    def _child_samples(self) -> Iterable[Sample]:
        aside, self._aside = self._aside, 0.0
        self.inc(aside)
        return super()._child_samples()


class Histogram(prometheus_client.Histogram):
    """One that takes `add` too."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._aside: list[float] = []

    def add(self, amount: float) -> None:
        """Observe, from the thread of the event loop."""
        self._aside.append(amount)
        if len(self._aside) >= MOST:
            self._add_up()

    def _add_up(self) -> None:
        aside, self._aside = sorted(self._aside), []
        self._sum.inc(sum(aside))
        begin = 0
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            end = bisect_right(aside, bound, begin)
            if end > begin:
                bucket.inc(end - begin)
                begin = end

    def _child_samples(self) -> Iterable[Sample]:
        self._add_up()
        return super()._child_samples()
