"""What one model of a live revision has answered: for metrics, and for the protocol's statistics, which ask for each
version apart. All of it is counted on the event loop, and read there."""

import time
from dataclasses import dataclass, field
from functools import partial

from serving.domain.spreads import COUNTS, SECONDS, Spread

EXACT = 1024
"""Rows of a batch up to which each size is counted apart; beyond, the next power of two stands for it."""


@dataclass(slots=True)
class Spent:
    """Where the seconds of one request went."""

    read: float = 0.0
    """Until the model could be asked: to let it in, and to make arrays of its body."""
    queue: float = 0.0
    """Until the model came to it."""
    compute: float = 0.0
    """Of the batch that it was part of."""
    write: float = 0.0
    """To make an answer of what the model said."""
    batch: int = 0
    """Rows of that batch."""


@dataclass(slots=True)
class Batches:
    """Of one size."""

    count: int = 0
    seconds: float = 0.0


@dataclass
class Tally:
    """Since the revision began to answer here."""

    requests: int = 0
    rows: int = 0
    failed: int = 0
    failed_seconds: float = 0.0
    last_at: float = 0.0
    """When it was asked last, in seconds since 1970; 0: never."""
    read_seconds: float = 0.0
    compute_seconds: float = 0.0
    """That requests waited for the model while it computed: of a batch, as often as it has requests."""
    write_seconds: float = 0.0
    took: Spread = field(default_factory=partial(Spread, SECONDS))
    """From the read body to the answer, of requests that were answered."""
    queued: Spread = field(default_factory=partial(Spread, SECONDS))
    computed: Spread = field(default_factory=partial(Spread, SECONDS))
    """Of batches."""
    batch_rows: Spread = field(default_factory=partial(Spread, COUNTS))
    batch_requests: Spread = field(default_factory=partial(Spread, COUNTS))
    batches: dict[int, Batches] = field(default_factory=dict)
    """By their rows."""

    @property
    def seconds(self) -> float:
        """Of all requests that it answered."""
        return self.took.sum

    @property
    def executions(self) -> int:
        """How often the model was run."""
        return self.computed.count

    def answered(self, rows: int, seconds: float, spent: Spent) -> None:
        """A request is answered, as one of a batch."""
        self.requests += 1
        self.rows += rows
        self.took.add(seconds)
        self.queued.add(spent.queue)
        self.read_seconds += spent.read
        self.compute_seconds += spent.compute
        self.write_seconds += spent.write
        self.last_at = time.time()

    def executed(self, requests: int, rows: int, seconds: float) -> None:
        """The model has answered a batch."""
        self.computed.add(seconds)
        self.batch_rows.add(rows)
        self.batch_requests.add(requests)
        size = rows if rows <= EXACT else 1 << (rows - 1).bit_length()
        of_size = self.batches.get(size)
        if of_size is None:
            of_size = self.batches[size] = Batches()
        of_size.count += 1
        of_size.seconds += seconds

    def refused(self, seconds: float) -> None:
        """It failed, or too many waited for it."""
        self.failed += 1
        self.failed_seconds += seconds
        self.last_at = time.time()
