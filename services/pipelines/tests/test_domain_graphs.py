"""Steps as a graph: order, circles, and who is before whom."""

import pytest

from pipelines.domain.graphs import ancestors_in, cycles_in, order_of

DIAMOND = {"d": ["b", "c"], "c": ["a"], "b": ["a"], "a": []}


def test_each_step_comes_after_what_it_needs() -> None:
    assert order_of(DIAMOND) == ["a", "c", "b", "d"]


def test_what_is_unknown_is_not_waited_for() -> None:
    assert order_of({"a": ["nobody"]}) == ["a"]


@pytest.mark.parametrize(
    ("needs", "cycles"),
    [
        (DIAMOND, []),
        ({"a": ["a"]}, [["a", "a"]]),
        ({"c": ["b"], "b": ["a"], "a": ["c"]}, [["a", "c", "b", "a"]]),
        ({"x": ["a"], "a": ["b"], "b": ["a"]}, [["a", "b", "a"]]),
        ({"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"], "e": []}, [["a", "b", "a"], ["c", "d", "c"]]),
        ({"a": ["b"], "b": ["a"], "c": ["a", "d"], "d": []}, [["a", "b", "a"]]),
    ],
)
def test_circles_are_named_by_their_path(needs: dict[str, list[str]], cycles: list[list[str]]) -> None:
    assert cycles_in(needs) == cycles


def test_who_is_before_whom_through_others_too() -> None:
    before = ancestors_in(DIAMOND)
    assert before.is_before("a", "d")
    assert before.is_before("b", "d")
    assert not before.is_before("b", "c")
    assert not before.is_before("d", "a")
    assert not before.is_before("a", "a")


def test_in_a_circle_nothing_is_judged() -> None:
    assert ancestors_in({"a": ["b"], "b": ["a"]}).is_before("a", "b")


def test_ten_thousand_steps_in_a_row() -> None:
    needs = {str(n): [str(n - 1)] if n else [] for n in range(10_000)}
    assert order_of(needs) == list(needs)
    assert cycles_in(needs) == []
    assert ancestors_in(needs).is_before("0", "9999")
    assert cycles_in({**needs, "0": ["9999"]}) == [["0", *[str(n) for n in range(9999, 0, -1)], "0"]]
