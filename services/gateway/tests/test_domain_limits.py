"""How often, and how many at once."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.limits import ENTRIES, Buckets, Overloaded, Places, Rate, RateExceeded, TooManyAtOnce, Verdict

RATE = Rate(per_second=10, burst=3)


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    buckets = Buckets(RATE)

    assert [buckets.take("a", 0.0).allowed for _ in range(4)] == [True, True, True, False]
    assert [buckets.take("a", 0.1).allowed for _ in range(2)] == [True, False]
    assert [buckets.take("a", 10.0).allowed for _ in range(4)] == [True, True, True, False]


def test_a_refused_request_costs_nothing() -> None:
    buckets = Buckets(RATE)
    for _ in range(100):
        buckets.take("a", 0.0)

    assert buckets.take("a", 0.11).allowed


def test_each_key_has_its_own() -> None:
    buckets = Buckets(Rate(per_second=1, burst=1))

    assert buckets.take("a", 0.0).allowed
    assert buckets.take("b", 0.0).allowed
    assert not buckets.take("a", 0.0).allowed


def test_a_verdict_says_what_is_left_and_how_long_to_wait() -> None:
    buckets = Buckets(RATE)
    verdicts = [buckets.take("a", 0.0) for _ in range(4)]

    assert [verdict.remaining for verdict in verdicts] == [2, 1, 0, 0]
    assert [round(verdict.wait, 3) for verdict in verdicts] == [0, 0, 0.1, 0.1]
    assert verdicts[0].headers() == [(b"ratelimit-policy", b'"key";q=3;w=1'), (b"ratelimit", b'"key";r=2;t=0')]
    verdicts[2].check()
    with pytest.raises(RateExceeded) as refused:
        verdicts[3].check()
    assert refused.value.retry_after == timedelta(seconds=1)


def test_a_long_wait_is_said_in_whole_seconds() -> None:
    with pytest.raises(RateExceeded) as refused:
        Verdict(False, RATE, 0, 2.1).check()
    assert refused.value.retry_after == timedelta(seconds=3)


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_never_more_than_the_burst_and_the_rate(gaps: list[float]) -> None:
    buckets, now, allowed = Buckets(RATE), 0.0, 0
    for gap in gaps:
        now += gap
        allowed += buckets.take("a", now).allowed

        assert allowed <= RATE.burst + now * RATE.per_second + 1e-3


def test_full_buckets_make_room_first_and_then_the_oldest() -> None:
    buckets = Buckets(Rate(per_second=0.001, burst=1))
    buckets.take("gone", 0.0)
    for number in range(ENTRIES - 1):
        buckets.take(f"{number}", 100_000.0)
    buckets.take("new", 100_000.0)  # `gone` is full again by now
    assert not buckets.take("0", 100_000.0).allowed
    buckets.take("newer", 100_000.0)
    assert buckets.take("1", 100_000.0).allowed


def test_places_are_taken_and_given_back() -> None:
    places = Places(of_each=2, of_all=3)
    places.take("a")
    places.take("a")
    with pytest.raises(TooManyAtOnce) as refused:
        places.take("a")
    assert refused.value.retry_after == timedelta(seconds=1)
    places.take("b")
    with pytest.raises(Overloaded):
        places.take("c")
    places.give_back("a")
    places.take("c")
    places.give_back("a")
    places.take("a")
