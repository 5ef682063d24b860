"""Which trials of a sweep are not worth going on with: asynchronous successive halving (ASHA). Pure.

A trial is judged at rungs: after `first`, `first · reduction`, `first · reduction²` … steps. It goes on when its value
there is among the best 1/`reduction` of all that were seen at that rung until then. It is judged once at each, and
nobody waits for anybody.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_REDUCTION = 100
MAX_FIRST = 2**31 - 1
RUNGS = 32


@dataclass(frozen=True)
class Pruning:
    """How a sweep prunes."""

    first: int = 1
    """The step at which a trial is first judged."""
    reduction: int = 3

    def step_of(self, rung: int) -> int:
        """Where that rung is; they count from 0."""
        step: int = self.first * self.reduction**rung
        return step


@dataclass(frozen=True)
class Reached:
    """What a trial reported last at or after some step."""

    step: int
    value: float


def goes_on(value: float, others: Sequence[float], reduction: int, *, maximize: bool) -> bool:
    """Whether a trial with that value at a rung goes on; `others` are the values seen there before."""
    better = sum(1 for other in others if (other > value if maximize else other < value))
    # Of the first few, only the best so far: later ones need not wait until there are enough to compare with.
    return better < max(1, (len(others) + 1) // reduction)
