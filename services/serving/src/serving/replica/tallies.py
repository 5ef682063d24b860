"""What one model of a live revision has answered: for the protocol's statistics, which ask for each version apart."""

import time
from dataclasses import dataclass


@dataclass
class Tally:
    """Since the revision began to answer here."""

    requests: int = 0
    rows: int = 0
    seconds: float = 0.0
    """From the read body to the model's answer, of all requests that it answered."""
    failed: int = 0
    failed_seconds: float = 0.0
    last_at: float = 0.0
    """When it was asked last, in seconds since 1970; 0: never."""

    def answered(self, rows: int, seconds: float) -> None:
        self.requests += 1
        self.rows += rows
        self.seconds += seconds
        self.last_at = time.time()

    def refused(self, seconds: float) -> None:
        """It failed, or too many waited for it."""
        self.failed += 1
        self.failed_seconds += seconds
        self.last_at = time.time()
