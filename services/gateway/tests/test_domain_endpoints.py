"""Which copy of a service a request goes to."""

import pytest

from gateway.domain.endpoints import FAILURES, LONGEST, SHORTEST, Endpoint, Origin, Pool


def picked(pool: Pool, now: float = 0.0, *avoid: str) -> str | None:
    endpoint = pool.pick(now, avoid)
    return endpoint.url if endpoint else None


def test_the_one_with_the_least_to_do() -> None:
    pool = Pool(["http://10.0.0.1/", "http://10.0.0.2:80"])
    pool.endpoints[0].in_flight = 1

    assert {picked(pool) for _ in range(4)} == {"http://10.0.0.2:80"}


def test_equals_take_turns() -> None:
    pool = Pool(["http://10.0.0.1:80", "http://10.0.0.2:80"])

    assert [picked(pool) for _ in range(4)] == ["http://10.0.0.2:80", "http://10.0.0.1:80"] * 2


def test_not_the_one_that_just_failed() -> None:
    pool = Pool(["http://10.0.0.1:80", "http://10.0.0.2:80"])

    assert {picked(pool, 0.0, "http://10.0.0.1:80") for _ in range(3)} == {"http://10.0.0.2:80"}
    assert picked(pool, 0.0, "http://10.0.0.1:80", "http://10.0.0.2:80") is None


def test_one_that_fails_again_and_again_is_left_alone_and_tried_now_and_then() -> None:
    endpoint = Endpoint("http://10.0.0.1:80")
    pool = Pool([])
    pool.endpoints = [endpoint]
    for _ in range(FAILURES - 1):
        endpoint.failed(0.0)
    assert picked(pool) == "http://10.0.0.1:80"
    endpoint.failed(0.0)
    assert picked(pool) is None
    assert picked(pool, SHORTEST) == "http://10.0.0.1:80"  # a trial
    assert picked(pool, SHORTEST) is None  # and one only
    assert picked(pool, SHORTEST + LONGEST) == "http://10.0.0.1:80"  # of a trial nobody heard again
    endpoint.answered()
    assert picked(pool, SHORTEST + LONGEST) == "http://10.0.0.1:80"
    assert picked(pool, SHORTEST + LONGEST) == "http://10.0.0.1:80"


def test_the_pause_grows_to_an_end() -> None:
    endpoint = Endpoint("http://10.0.0.1:80")
    for _ in range(100):
        endpoint.failed(0.0)

    assert endpoint.ejected_until == LONGEST


def test_one_where_nobody_listens_is_asked_every_time_unless_there_are_others() -> None:
    alone, two = Pool(["http://10.0.0.1:80"]), Pool(["http://10.0.0.1:80", "http://10.0.0.2:80"])
    for _ in range(10):
        alone.refused(alone.endpoints[0], 0.0)
        two.refused(two.endpoints[0], 0.0)

    assert picked(alone) == "http://10.0.0.1:80"
    assert {picked(two) for _ in range(4)} == {"http://10.0.0.2:80"}


def test_one_that_says_that_it_cannot_is_avoided_for_a_while() -> None:
    pool = Pool(["http://10.0.0.1:80", "http://10.0.0.2:80"])
    first, second = pool.endpoints
    assert pool.has_other(first, 10.0)
    first.overloaded(10.0)
    second.in_flight = 5
    assert {picked_at(pool, 10.9) for _ in range(3)} == {"http://10.0.0.2:80"}
    assert not pool.has_other(second, 10.9)
    assert picked_at(pool, 11.0) == "http://10.0.0.1:80"
    second.overloaded(11.0)
    first.overloaded(11.0)
    assert picked_at(pool, 11.5) == "http://10.0.0.1:80"  # all of them: as if none were


def picked_at(pool: Pool, now: float) -> str:
    picked = pool.pick(now)
    assert picked is not None
    return picked.url


NAMED = Origin.of("http://registry:8000")


def urls(pool: Pool) -> list[str]:
    return [endpoint.url for endpoint in pool.endpoints]


@pytest.mark.parametrize(
    ("url", "address", "expected"),
    [
        ("http://registry:8000/", "10.0.0.1", ("http://10.0.0.1:8000", "registry:8000", None)),
        ("http://registry", "10.0.0.1", ("http://10.0.0.1:80", "registry", None)),
        ("https://registry/base/", "fd00::1", ("https://[fd00::1]:443/base", "registry", "registry")),
        (
            "https://Registry.Internal:8443",
            "10.0.0.1",
            ("https://10.0.0.1:8443", "registry.internal:8443", "registry.internal"),
        ),
        ("http://10.0.0.1:8000", "10.0.0.1", ("http://10.0.0.1:8000", None, None)),
        ("http://[::1]:8000", "::1", ("http://[::1]:8000", None, None)),
    ],
)
def test_an_address_is_asked_in_the_words_of_the_name(
    url: str, address: str, expected: tuple[str, str | None, str | None]
) -> None:
    endpoint = Origin.of(url).at(address)

    assert (endpoint.url, endpoint.host, endpoint.name) == expected


@pytest.mark.parametrize("url", ["", "registry:8000", "ftp://registry", "http://", "http://:80", "http://a:port"])
def test_what_is_no_url_is_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be|[Pp]ort"):
        Origin.of(url)


def test_every_address_of_a_name_is_an_endpoint_with_its_own_account() -> None:
    pool = Pool(["http://registry:8000", "http://registry:8000/", "http://10.1.0.1:8000"])
    assert urls(pool) == ["http://10.1.0.1:8000"]
    assert pool.know(NAMED, ["10.0.0.1", "10.0.0.2"])
    assert not pool.know(NAMED, ["10.0.0.2", "10.0.0.1"])
    assert set(urls(pool)) == {"http://10.1.0.1:8000", "http://10.0.0.1:8000", "http://10.0.0.2:8000"}
    busy = next(it for it in pool.endpoints if it.url == "http://10.0.0.1:8000")
    busy.in_flight, busy.failures = 3, 2
    assert pool.know(NAMED, ["10.0.0.1", "10.0.0.3"])
    assert set(urls(pool)) == {"http://10.1.0.1:8000", "http://10.0.0.1:8000", "http://10.0.0.3:8000"}
    assert busy in pool.endpoints


def test_an_address_that_is_gone_gets_nothing_and_its_requests_count_when_it_is_back() -> None:
    pool = Pool(["http://registry:8000"])
    pool.know(NAMED, ["10.0.0.1"])
    (first,) = pool.endpoints
    first.in_flight = 1
    pool.know(NAMED, ["10.0.0.2"])
    assert {picked(pool) for _ in range(3)} == {"http://10.0.0.2:8000"}
    pool.know(NAMED, ["10.0.0.1", "10.0.0.2"])
    assert first in pool.endpoints
    pool.know(NAMED, ["10.0.0.2"])
    first.in_flight = 0
    pool.know(NAMED, ["10.0.0.2"])
    pool.know(NAMED, ["10.0.0.1"])
    assert first not in pool.endpoints  # nothing was left to remember


def test_one_that_is_not_ready_is_picked_when_none_is() -> None:
    pool = Pool(["http://10.0.0.1:80", "http://10.0.0.2:80"])
    first, second = pool.endpoints
    assert {picked(pool) for _ in range(4)} == {first.url, second.url}
    second.says(ready=True)
    second.in_flight = 9
    assert {picked(pool) for _ in range(4)} == {second.url}
    assert picked(pool, 0.0, second.url) == first.url  # it has just failed
    assert not pool.has_other(second, 0.0)
    assert pool.has_other(first, 0.0)


def test_one_that_is_back_has_failed_nobody_yet() -> None:
    endpoint = Endpoint("http://10.0.0.1:80")
    for _ in range(FAILURES):
        endpoint.failed(0.0)
    assert not endpoint.is_open(0.0)
    assert endpoint.says(ready=True)
    assert endpoint.is_open(0.0)
    for _ in range(FAILURES):
        endpoint.failed(0.0)
    assert not endpoint.says(ready=True)  # it says so, and fails everybody all the same
    assert not endpoint.is_open(0.0)
