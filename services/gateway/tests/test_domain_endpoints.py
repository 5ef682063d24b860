"""Which copy of a service a request goes to."""

from gateway.domain.endpoints import FAILURES, LONGEST, SHORTEST, Endpoint, Pool


def picked(pool: Pool, now: float = 0.0, *avoid: str) -> str | None:
    endpoint = pool.pick(now, avoid)
    return endpoint.url if endpoint else None


def test_the_one_with_the_least_to_do() -> None:
    pool = Pool(["http://a/", "http://b"])
    pool.endpoints[0].in_flight = 1

    assert {picked(pool) for _ in range(4)} == {"http://b"}


def test_equals_take_turns() -> None:
    pool = Pool(["http://a", "http://b"])

    assert [picked(pool) for _ in range(4)] == ["http://b", "http://a"] * 2


def test_not_the_one_that_just_failed() -> None:
    pool = Pool(["http://a", "http://b"])

    assert {picked(pool, 0.0, "http://a") for _ in range(3)} == {"http://b"}
    assert picked(pool, 0.0, "http://a", "http://b") is None


def test_one_that_fails_again_and_again_is_left_alone_and_tried_now_and_then() -> None:
    endpoint = Endpoint("http://a")
    pool = Pool([])
    pool.endpoints = [endpoint]
    for _ in range(FAILURES - 1):
        endpoint.failed(0.0)
    assert picked(pool) == "http://a"
    endpoint.failed(0.0)
    assert picked(pool) is None
    assert picked(pool, SHORTEST) == "http://a"  # a trial
    assert picked(pool, SHORTEST) is None  # and one only
    assert picked(pool, SHORTEST + LONGEST) == "http://a"  # of a trial nobody heard again
    endpoint.answered()
    assert picked(pool, SHORTEST + LONGEST) == "http://a"
    assert picked(pool, SHORTEST + LONGEST) == "http://a"


def test_the_pause_grows_to_an_end() -> None:
    endpoint = Endpoint("http://a")
    for _ in range(100):
        endpoint.failed(0.0)

    assert endpoint.ejected_until == LONGEST


def test_one_where_nobody_listens_is_asked_every_time_unless_there_are_others() -> None:
    alone, two = Pool(["http://a"]), Pool(["http://a", "http://b"])
    for _ in range(10):
        alone.refused(alone.endpoints[0], 0.0)
        two.refused(two.endpoints[0], 0.0)

    assert picked(alone) == "http://a"
    assert {picked(two) for _ in range(4)} == {"http://b"}


def test_one_that_says_that_it_cannot_is_avoided_for_a_while() -> None:
    pool = Pool(["http://a", "http://b"])
    first, second = pool.endpoints
    assert pool.has_other(first, 10.0)
    first.overloaded(10.0)
    second.in_flight = 5
    assert {picked_at(pool, 10.9) for _ in range(3)} == {"http://b"}
    assert not pool.has_other(second, 10.9)
    assert picked_at(pool, 11.0) == "http://a"
    second.overloaded(11.0)
    first.overloaded(11.0)
    assert picked_at(pool, 11.5) == "http://a"  # all of them: as if none were


def picked_at(pool: Pool, now: float) -> str:
    picked = pool.pick(now)
    assert picked is not None
    return picked.url
