"""What a model has answered, and what it has not."""

import time

from serving.replica.tallies import Tally


def test_answers_and_refusals_are_counted_apart() -> None:
    tally, before = Tally(), time.time()
    assert tally.last_at == 0
    tally.answered(3, 0.25)
    tally.answered(1, 0.5)
    tally.refused(0.125)
    assert (tally.requests, tally.rows, tally.seconds) == (2, 4, 0.75)
    assert (tally.failed, tally.failed_seconds) == (1, 0.125)
    assert tally.last_at >= before
