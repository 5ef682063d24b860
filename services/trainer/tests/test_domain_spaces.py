"""What a sweep may vary, and the points of it."""

import math
from typing import Any

import pytest

from trainer.domain import spaces
from trainer.domain.spaces import MAX_CHOICES, Choice, Real, Values, Whole

SPACE: dict[str, Values] = {
    "a": Whole(1, 7, step=3),
    "b": Real(0.0, 0.3, step=0.1),
    "c": Choice(("x", None, [64, 64])),
}
ANY: dict[str, Values] = SPACE | {
    "d": Whole(1, 1000, log=True),
    "e": Real(0.001, 10.0, log=True),
    "f": Real(-1.0, 1.0),
}


def test_a_space_is_the_same_after_json_and_in_the_order_of_its_names() -> None:
    shuffled = {name: ANY[name] for name in ("f", "a", "c", "b", "e", "d")}
    again = spaces.from_json(spaces.to_json(shuffled))
    assert again == ANY
    assert list(again) == sorted(ANY)


def test_a_grid_has_every_point_once() -> None:
    size = spaces.size_of(SPACE)
    assert size == 3 * 4 * 3
    points = [spaces.point(SPACE, number) for number in range(size)]
    assert points[0] == {"a": 1, "b": 0.0, "c": "x"}
    assert points[1] == {"a": 1, "b": 0.0, "c": None}
    assert points[-1] == {"a": 7, "b": pytest.approx(0.3), "c": [64, 64]}
    assert len({spaces.key_of(each) for each in points}) == size


@pytest.mark.parametrize("values", [ANY["d"], ANY["e"], ANY["f"]])
def test_what_has_no_steps_has_no_grid(values: Values) -> None:
    assert spaces.size_of(SPACE | {"z": values}) is None


def test_a_sample_is_the_same_for_its_seed_and_number_alone() -> None:
    drawn = [spaces.sample(ANY, 7, number) for number in range(50)]
    assert drawn == [spaces.sample(ANY, 7, number) for number in range(50)]
    assert drawn != [spaces.sample(ANY, 8, number) for number in range(50)]
    assert len({spaces.key_of(each) for each in drawn}) == 50


def test_a_sample_lies_in_the_space_and_reaches_all_of_it() -> None:
    drawn = [spaces.sample(ANY, 0, number) for number in range(2000)]

    def of(name: str) -> list[Any]:
        return [each[name] for each in drawn]

    assert set(of("a")) == {1, 4, 7}
    assert {round(each, 9) for each in of("b")} == {0.0, 0.1, 0.2, 0.3}
    assert {spaces.key_of(each) for each in of("c")} == {'"x"', "null", "[64, 64]"}
    assert min(of("d")) >= 1
    assert max(of("d")) <= 1000
    assert sum(1 for each in of("d") if each <= 31) == pytest.approx(1000, rel=0.2)  # half of them below the root
    assert 0.001 <= min(of("e")) < 0.0015
    assert 9 < max(of("e")) <= 10
    assert -1 <= min(of("f")) < -0.99
    assert 0.99 < max(of("f")) <= 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (Whole(3, 2), "low that is not above its high"),
        (Whole(0, 2, log=True), "low above 0"),
        (Whole(1, 9, step=0), "step above 0"),
        (Whole(1, 9, step=2, log=True), "not both"),
        (Whole(0, 2**60), "usual size"),
        (Real(0.0, math.inf), "usual size"),
        (Real(0.0, 1.0, step=math.nan), "step above 0"),
        (Real(0.0, 1.0, log=True), "low above 0"),
        (Real(0.1, 1.0, step=0.1, log=True), "not both"),
        (Choice(()), "1 to 100 choices"),
        (Choice(tuple(range(MAX_CHOICES + 1))), "1 to 100 choices"),
        (Choice((1, 2, 1)), "twice"),
    ],
)
def test_values_that_are_none_are_named(values: Values, said: str) -> None:
    [place] = spaces.mistakes({"good": Whole(1, 2), "a/b": values})
    assert place["pointer"] == "#/space/a~1b"
    assert said in place["detail"]


def test_a_choice_of_true_and_1_is_two() -> None:
    assert spaces.mistakes({"a": Choice((True, 1, 1.5, "1"))}) == []


@pytest.mark.parametrize("size", [0, 51])
def test_a_space_has_some_parameters_and_not_too_many(size: int) -> None:
    [place] = spaces.mistakes({str(each): Whole(0, 1) for each in range(size)})
    assert place["pointer"] == "#/space"


def test_the_corners_have_every_end_of_every_parameter() -> None:
    found = spaces.corners({"a": Whole(1, 7), "b": Real(0.0, 1.0), "c": Choice(("x", "y"))})
    assert [each["a"] for each in found[:2]] == [1, 7]
    assert [each["b"] for each in found[2:4]] == [0.0, 1.0]
    assert found[-1] == {"a": 1, "b": 0.0, "c": "y"}


def test_the_highest_value_is_one_that_steps_lead_to() -> None:
    assert spaces.highest(Whole(1, 9, step=3)) == 7
    assert spaces.highest(Real(0.0, 1.0, step=0.3)) == pytest.approx(0.9)
    assert spaces.highest(Real(0.0, 1.0)) == 1.0
