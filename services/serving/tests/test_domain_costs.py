"""What a model costs, learned from what its batches took."""

import pytest

from serving.domain.costs import STARTLED, Cost


def test_two_looks_at_a_warm_model_tell_what_is_fixed_from_what_a_row_costs() -> None:
    forest, linear = Cost.between(0.0016, 0.0017, 8), Cost.between(0.005, 0.040, 8)
    assert [forest.fixed, forest.per_row] == pytest.approx([0.00158, 1.4e-5], rel=0.05)
    assert [linear.fixed, linear.per_row] == pytest.approx([0, 0.005])
    faster_together = Cost.between(0.003, 0.001, 8)
    assert (faster_together.fixed, faster_together.per_row) == (0.003, 0)


def test_a_queue_costs_its_batches_and_its_rows() -> None:
    cost = Cost(0.002, 0.001)
    assert cost.of(10) == pytest.approx(0.012)
    assert cost.of(10, 5) == pytest.approx(0.020)
    assert cost.rows_within(0.0101) == 8
    assert cost.rows_within(0.0001) == 1
    assert Cost(1.0, 0.0).rows_within(0.1) > 1_000_000


def test_what_batches_of_different_sizes_took_is_learned() -> None:
    cost = Cost(0.1, 0.0)
    for rows in (1, 9, 3, 30, 12, 1, 5, 22) * 4:
        cost.learn(rows, 0.002 + 0.0005 * rows)
    assert [cost.fixed, cost.per_row] == pytest.approx([0.002, 0.0005], rel=0.01)
    for rows in (1, 9, 3, 30, 12, 1, 5, 22) * 4:
        cost.learn(rows, 0.001 + 0.0001 * rows)
    assert cost.of(10) == pytest.approx(0.002, rel=0.2)


def test_batches_of_one_size_leave_what_was_known_of_a_row() -> None:
    cost = Cost(0.002, 0.001)
    for _ in range(50):
        cost.learn(1, 0.004)
    assert [cost.fixed, cost.per_row] == pytest.approx([0.003, 0.001])
    for _ in range(50):
        cost.learn(4, 0.002)  # no row can cost more than all of it
    assert cost.fixed >= 0
    assert cost.of(4) == pytest.approx(0.002, rel=0.05)


def test_a_pause_of_the_machine_says_little_of_the_model_and_what_was_unknown_is_believed() -> None:
    cost = Cost(0.001, 0.0)
    cost.learn(1, 10.0)
    assert cost.of(1) == pytest.approx(0.001 * STARTLED)
    unknown = Cost(0.0, 0.0)
    unknown.learn(1, 0.5)
    assert unknown.of(1) == pytest.approx(0.5)
