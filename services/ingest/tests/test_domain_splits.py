"""The split as a pure function."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.splits import Value, side_of, text_of, threshold

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.dates(),
    st.datetimes(timezones=st.just(UTC)),
)


@given(st.lists(VALUES, min_size=1), st.floats(0, 0.9), st.integers(0, 2**63 - 1))
def test_a_row_is_always_on_the_same_side(values: list[Value], held_out: float, seed: int) -> None:
    assert side_of(values, held_out=held_out, seed=seed) == side_of(list(values), held_out=held_out, seed=seed)


@given(st.lists(VALUES, min_size=1), st.integers(0, 100))
def test_a_larger_share_takes_nothing_back(values: list[Value], seed: int) -> None:
    sides = [side_of(values, held_out=share / 10, seed=seed) for share in range(10)]
    assert sides[0] == "train"
    assert sides == sorted(sides, reverse=True)


def test_these_rows_are_on_these_sides_for_ever() -> None:
    sides = "".join("h" if side_of([n, "x"], held_out=0.3, seed=42) == "held_out" else "t" for n in range(40))
    assert sides == "thhthtttthhttthththtttthhtttttthtttthhht"


def test_shares_come_out_as_asked() -> None:
    held = sum(side_of([n], held_out=0.2, seed=0) == "held_out" for n in range(20_000))
    assert held == pytest.approx(4000, rel=0.05)


TEXTS: dict[str, tuple[bool | float | str | date | datetime, str]] = {
    "a truth": (True, "true"),
    "an integer": (-42, "-42"),
    "a number": (0.1, "0.1"),
    "a large number": (1e20, "1e+20"),
    "a text": ("é|", "é|"),
    "a date": (date(2013, 1, 1), "2013-01-01"),
    "a moment": (datetime(2013, 1, 1, tzinfo=UTC), "1356998400000000"),
    "a moment elsewhere": (datetime(2013, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "1356998400000000"),
}


@pytest.mark.parametrize(("value", "text"), TEXTS.values(), ids=TEXTS.keys())
def test_every_value_has_one_text(value: bool | float | str | date | datetime, text: str) -> None:
    assert text_of(value) == text


def test_neighbouring_values_cannot_be_confused() -> None:
    # Without their lengths these would be one text.
    rows: list[list[Value]] = [["a", "b"], ["a|1:b"]]
    apart, together = ([side_of(row, held_out=0.5, seed=n) for n in range(64)] for row in rows)
    assert apart != together


def test_the_threshold_has_as_many_digits_as_are_compared() -> None:
    assert threshold(0) == "0" * 13
    assert threshold(0.5) == "8" + "0" * 12
