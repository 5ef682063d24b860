"""What a model has answered, and what it has not; and how the numbers spread."""

import time

from serving.domain.spreads import Spread
from serving.replica.tallies import EXACT, Spent, Tally


def test_answers_and_refusals_are_counted_apart() -> None:
    tally, before = Tally(), time.time()
    assert tally.last_at == 0
    tally.answered(3, 0.25, Spent(read=0.05, queue=0.125, compute=0.0625, write=0.01, batch=4))
    tally.answered(1, 0.5, Spent(read=0.05, queue=0.25, compute=0.0625, write=0.03, batch=4))
    tally.refused(0.125)
    assert (tally.requests, tally.rows, tally.seconds) == (2, 4, 0.75)
    assert (tally.queued.sum, tally.compute_seconds) == (0.375, 0.125)
    assert (tally.read_seconds, tally.write_seconds) == (0.1, 0.04)
    assert (tally.failed, tally.failed_seconds) == (1, 0.125)
    assert tally.last_at >= before


def test_batches_are_counted_by_their_size_up_to_where_that_is_many() -> None:
    tally = Tally()
    for rows in (1, 1, 8, EXACT, EXACT + 1, 2000, 10_000):
        tally.executed(1, rows, 0.5)
    assert {size: it.count for size, it in tally.batches.items()} == {1: 2, 8: 1, EXACT: 1, 2048: 2, 16_384: 1}
    assert (tally.batches[1].seconds, tally.executions) == (1.0, 7)
    assert (tally.batch_rows.count, tally.batch_requests.sum) == (7, 7)


def test_a_bound_is_below_itself_and_what_is_above_all_is_below_infinity() -> None:
    spread = Spread((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        spread.add(value)
    assert spread.below() == [(1.0, 2), (2.0, 4), (float("inf"), 5)]
    assert (spread.count, spread.sum) == (5, 104.0)


def test_several_are_added_up_and_none_are_nothing() -> None:
    one, other = Spread((1.0,)), Spread((1.0,))
    one.add(0.5)
    other.add(3)
    other.add(1)
    whole = Spread.of((one, other), (1.0,))
    assert (whole.counts, whole.sum) == ([2, 1], 4.5)
    assert Spread.of((), (1.0,)).below() == [(1.0, 0), (float("inf"), 0)]
    assert one.counts == [1, 0]
