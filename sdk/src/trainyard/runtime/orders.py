"""In which order a training sees its rows: a pure function of (seed, epoch), whatever number of processes shares them.

An epoch is one list of all rows. Each step takes the next `batch` of them, and the processes of that moment divide
these among themselves. So a position in the list is all that has to be remembered, and a training that goes on with
more processes or fewer loses no row and repeats none.
"""

import hashlib
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.runtime.mistakes import CannotResume

NAME = b"trainyard order 1\0"
"""Another way to order rows would be another name: what was begun in one cannot go on in the other."""


HAD = object()


@dataclass(frozen=True)
class Batch:
    """What one process does in one step."""

    step: int
    """From 1 on, through all epochs."""
    epoch: int
    """From 0 on."""
    position: int
    """How many rows of the epoch are done when this step is."""
    indices: Sequence[int]
    """The rows of this process. Never empty: where rows do not suffice for all, a row is given whose share is 0."""
    share: float
    """What the loss (a mean over these rows) is multiplied with, so that the mean over all processes is that over all
    rows of the step, however these were divided."""
    ends_epoch: bool


class Order:
    """All steps that are left, as an iterable of `Batch`."""

    def __init__(
        self,
        rows: int,
        *,
        batch: int,
        epochs: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """`batch` counts the rows of a step over all processes together."""
        if rows < 1 or batch < 1 or epochs < 0 or not 0 <= rank < world_size:
            raise ValueError("An order has rows, a batch of 1 at least, and a rank below its world size.")
        self.rows = rows
        self.batch = batch
        self.epochs = epochs
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.step = self.epoch = self.position = 0

    @property
    def steps(self) -> int:
        """The number of the last step."""
        if self.epoch >= self.epochs:
            return self.step
        later = _steps(self.rows, self.batch) * (self.epochs - self.epoch - 1)
        return self.step + _steps(self.rows - self.position, self.batch) + later

    def __iter__(self) -> Iterator[Batch]:
        step, start = self.step, self.position
        for epoch in range(self.epoch, self.epochs):
            rows = permutation(self.rows, self.seed, epoch) if self.shuffle else range(self.rows)
            for begin in range(start, self.rows, self.batch):
                step += 1
                yield self._batch(rows[begin : begin + self.batch], step, epoch, begin)
            start = 0

    def _batch(self, chosen: Sequence[int], step: int, epoch: int, begin: int) -> Batch:
        mine = part_of(len(chosen), self.rank, self.world_size)
        indices = [chosen[number] for number in mine]
        end = begin + len(chosen)
        share = len(indices) * self.world_size / len(chosen)
        return Batch(step, epoch, end, indices or [chosen[0]], share, end == self.rows)

    def state_dict(self) -> dict[str, Any]:
        """What must be the same for a training to go on."""
        return {"rows": self.rows, "seed": self.seed, "shuffle": self.shuffle}

    def go_on(self, state: Mapping[str, Any], *, step: int, epoch: int, position: int) -> None:
        """Stand behind that position.

        Raises:
            CannotResume: these are other rows, or they are in another order.
        """
        mine = self.state_dict()
        if (different := [name for name in mine if state.get(name) != mine[name]]) or not 0 <= position <= self.rows:
            what = ", ".join(f"{name} was {state.get(name)!r} and is {mine[name]!r}" for name in different)
            raise CannotResume(f"The checkpoint is of another order of rows: {what or 'its position is beyond them'}.")
        self.step, self.epoch, self.position = step, epoch, position


def permutation(rows: int, seed: int, epoch: int, *, numpy: Any = HAD) -> Sequence[int]:
    """All rows, in the order of keys (64 bits each) that SHAKE-128 makes of seed and epoch: everywhere the same.

    NumPy sorts them ten times as fast, and is asked to where somebody has imported it anyway.
    """
    keys = hashlib.shake_128(NAME + f"{seed}/{epoch}".encode()).digest(8 * rows)
    library = sys.modules.get("numpy") if numpy is HAD else numpy
    if library is not None:
        order: list[int] = library.frombuffer(keys, "<u8").argsort(kind="stable").tolist()
        return order
    return _sorted(keys)


def _sorted(keys: bytes) -> Sequence[int]:
    numbers = array("Q", keys)
    if sys.byteorder == "big":
        numbers.byteswap()
    return sorted(range(len(numbers)), key=numbers.__getitem__)


def part_of(count: int, rank: int, world_size: int) -> range:
    """Which of `count` things are for a process: neighbours, and for none more than one above another."""
    return range(count * rank // world_size, count * (rank + 1) // world_size)


def _steps(rows: int, batch: int) -> int:
    return -(-rows // batch)
