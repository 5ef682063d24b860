"""What a model's answers cost, learned from what they took: one part whatever the rows, one for each row."""

from dataclasses import dataclass, field

KEPT = 0.9
"""Of the weight of what was seen before, with each new batch: the last twenty or so decide."""
STARTLED = 4.0
"""How many times the expected a batch may count for: a pause of the whole machine says nothing of the model."""
APART = 0.5
"""Rows of variance, from which on batches differ enough to tell the two parts from each other."""
LEAST = 1e-6


@dataclass
class Cost:
    fixed: float
    """Seconds of a batch, whatever its rows."""
    per_row: float
    _weight: float = field(default=0.0, init=False, repr=False)
    _rows: float = field(default=0.0, init=False, repr=False)
    _seconds: float = field(default=0.0, init=False, repr=False)
    _squares: float = field(default=0.0, init=False, repr=False)
    _products: float = field(default=0.0, init=False, repr=False)

    @classmethod
    def between(cls, one: float, many: float, rows: int) -> "Cost":
        """Of a model that was seen to take `one` second for one row, and `many` for so many (two at least)."""
        per_row = max((many - one) / (rows - 1), 0.0)
        return cls(max(one - per_row, 0.0), per_row)

    def of(self, rows: int, batches: int = 1) -> float:
        """The seconds that so many rows take in so many batches."""
        return batches * self.fixed + rows * self.per_row

    def rows_within(self, seconds: float) -> int:
        """How many rows of one batch fit into that time; one at least."""
        if self.per_row < LEAST:
            return 1 << 31
        return max(int((seconds - self.fixed) / self.per_row), 1)

    def learn(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took that long."""
        if (expected := self.of(rows)) > 0:
            seconds = min(seconds, STARTLED * expected)
        self._weight = KEPT * self._weight + 1
        self._rows = KEPT * self._rows + rows
        self._seconds = KEPT * self._seconds + seconds
        self._squares = KEPT * self._squares + rows * rows
        self._products = KEPT * self._products + rows * seconds
        mean, took = self._rows / self._weight, self._seconds / self._weight
        variance = self._squares / self._weight - mean * mean
        if variance > APART:
            self.per_row = max((self._products / self._weight - mean * took) / variance, 0.0)
        # No batch is free, and none costs less than nothing: what the rows do not explain is the fixed part.
        self.per_row = min(self.per_row, took / mean)
        self.fixed = max(took - self.per_row * mean, 0.0)
