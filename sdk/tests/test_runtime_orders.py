"""In which order rows are seen: the same everywhere, each once, however many processes share them (G21)."""

from collections import Counter
from itertools import islice
from typing import Any

import pytest

from trainyard.runtime.mistakes import CannotResume
from trainyard.runtime.orders import Batch, Order, part_of, permutation


def ordered(rows: int, world_size: int, **known: Any) -> list[Order]:
    said: dict[str, Any] = {"batch": 8, "seed": 3, **known}
    return [Order(rows, rank=rank, world_size=world_size, **said) for rank in range(world_size)]


def seen(batches: list[Batch]) -> list[int]:
    return [index for batch in batches if batch.share for index in batch.indices]


def test_the_order_is_the_same_in_every_release_of_ours_and_of_python() -> None:
    assert list(permutation(10, 0, 0)) == [8, 6, 4, 7, 2, 1, 3, 9, 0, 5]
    assert list(permutation(10, 0, 1)) != list(permutation(10, 0, 0)) != list(permutation(10, 1, 0))


def test_it_needs_no_numpy_to_be_that() -> None:
    import_free = permutation(1000, 5, 2, numpy=None)
    assert list(import_free) == list(permutation(1000, 5, 2))
    assert sorted(import_free) == list(range(1000))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 16])
def test_every_row_is_seen_once_in_an_epoch(world_size: int) -> None:
    found = [row for order in ordered(101, world_size) for row in seen(list(order))]
    assert sorted(found) == list(range(101))


def test_every_process_has_as_many_steps_and_never_an_empty_one() -> None:
    orders = ordered(101, 5, epochs=2)
    batches = [list(order) for order in orders]
    assert {len(own) for own in batches} == {26} == {order.steps for order in orders}
    assert all(batch.indices for own in batches for batch in own)
    assert [batch.ends_epoch for batch in batches[0]].count(True) == 2


def test_shares_make_the_mean_over_processes_that_over_rows() -> None:
    losses = [float(row * row) for row in range(101)]
    for together in zip(*ordered(101, 3), strict=True):
        rows = seen(list(together))
        means = [sum(losses[i] for i in batch.indices) / len(batch.indices) * batch.share for batch in together]
        assert sum(means) / 3 == pytest.approx(sum(losses[row] for row in rows) / len(rows))


def test_with_another_number_of_processes_no_row_is_lost_and_none_repeated() -> None:
    found: list[int] = []
    step = position = 0
    for world_size, steps in [(4, 5), (2, 3), (3, 1000)]:  # the processes that there are, and for how long
        orders = ordered(203, world_size)
        for order in orders:
            order.go_on(order.state_dict(), step=step, epoch=0, position=position)
        own = [list(islice(order, steps)) for order in orders]
        found += [row for batches in own for row in seen(batches)]
        step, position = own[0][-1].step, own[0][-1].position
    assert Counter(found) == Counter(range(203))
    assert (step, position) == (26, 203)


def test_it_goes_on_in_the_middle_as_if_nothing_had_been() -> None:
    whole: list[Batch] = list(*ordered(50, 1, epochs=3))
    for done in (0, 3, 7, 10, 20):
        (order,) = ordered(50, 1, epochs=3)
        at = whole[done - 1] if done else Batch(0, 0, 0, [], 0, False)
        order.go_on(order.state_dict(), step=at.step, epoch=at.epoch, position=at.position)
        assert order.steps == 21
        assert list(order) == whole[done:]


def test_what_is_over_has_nothing_left() -> None:
    (order,) = ordered(50, 1)
    order.go_on(order.state_dict(), step=7, epoch=1, position=0)
    assert (list(order), order.steps) == ([], 7)


def test_rows_stay_where_they_are_if_that_is_asked_for() -> None:
    assert seen(list(Order(10, batch=4, shuffle=False))) == list(range(10))


def test_another_order_is_refused() -> None:
    (order,) = ordered(50, 1)
    with pytest.raises(CannotResume, match="rows was 49 and is 50, seed was 4 and is 3"):
        order.go_on({"rows": 49, "seed": 4, "shuffle": True}, step=1, epoch=0, position=8)
    with pytest.raises(CannotResume, match="beyond"):
        order.go_on(order.state_dict(), step=1, epoch=0, position=51)


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"batch": 0}, {"rank": 1}, {"epochs": -1}])
def test_what_is_no_order_is_refused(wrong: dict[str, Any]) -> None:
    known: dict[str, Any] = {"rows": 5, "batch": 1, **wrong}
    with pytest.raises(ValueError, match="An order has"):
        Order(**known)


def test_parts_are_neighbours_of_equal_size_or_nearly() -> None:
    assert [list(part_of(8, rank, 3)) for rank in range(3)] == [[0, 1], [2, 3, 4], [5, 6, 7]]
    assert [list(part_of(1, rank, 3)) for rank in range(3)] == [[], [], [0]]
