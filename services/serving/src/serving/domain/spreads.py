"""Histograms of one thread: a bucket is found and counted up, and nothing is locked, as one for many threads must.

What every request adds to has to cost next to nothing (docs/decisions/0031-requests-are-watched-where-they-pass.md).
"""

from bisect import bisect_left
from collections.abc import Iterable

SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of times."""
COUNTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 10_000.0)
"""Upper bounds of what a batch has, up to the rows of the largest request."""


class Spread:
    """How often a number fell between which bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one. A value that is a bound is below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    @classmethod
    def of(cls, spreads: Iterable["Spread"], bounds: tuple[float, ...]) -> "Spread":
        """All of them as one, which have these bounds."""
        whole = cls(bounds)
        for one in spreads:
            whole.counts = [a + b for a, b in zip(whole.counts, one.counts, strict=True)]
            whole.sum += one.sum
        return whole

    def below(self) -> list[tuple[float, int]]:
        """For each bound, and for infinity at the end, how many were not above it."""
        found, so_far = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            so_far += count
            found.append((bound, so_far))
        return found
