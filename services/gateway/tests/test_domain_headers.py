"""Which headers pass, in each direction."""

import pytest

from gateway.domain import headers as rules

SAID = [(b"authorization", b"Bearer internal")]


def passed(*headers: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return rules.forwarded(headers, [])


@pytest.mark.parametrize(
    "name", [b"accept", b"content-type", b"if-match", b"idempotency-key", b"last-event-id", b"x-a"]
)
def test_what_a_client_says_of_its_request_passes(name: bytes) -> None:
    assert passed((name, b"a")) == [(name, b"a")]


@pytest.mark.parametrize(
    "name",
    [
        b"authorization",
        b"cookie",
        b"host",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-user",
        b"x-auth-request-user",
        b"x-remote-user",
        b"x-user",
        b"x-user-id",
        b"x-project",
        b"x-project-id",
        b"x-role",
        b"x-subject",
        b"x-trainyard-project",
        b"kubeflow-userid",
        b"x-api-key",
        b"x-original-url",
        b"x-request-id",
        b"traceparent",
        b"x_forwarded_for",  # some servers read it as the one with dashes
    ],
)
def test_who_asks_is_said_by_us_alone(name: bytes) -> None:
    assert rules.forwarded([(name, b"root")], SAID) == SAID


@pytest.mark.parametrize("name", sorted(rules.HOP_BY_HOP))
def test_what_is_of_one_connection_stays_there(name: bytes) -> None:
    assert passed((name, b"a")) == []
    assert rules.returned([(name, b"a")], 200) == []


def test_what_connection_names_stays_there_too() -> None:
    assert passed((b"connection", b"close, X-Odd"), (b"x-odd", b"1"), (b"x-even", b"2")) == [(b"x-even", b"2")]
    assert rules.returned([(b"connection", b"X-Odd"), (b"x-odd", b"1")], 200) == []


def test_headers_that_come_twice_pass_twice() -> None:
    cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]

    assert rules.returned(cookies, 200) == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    assert passed((b"accept", b"a"), (b"accept", b"b")) == [(b"accept", b"a"), (b"accept", b"b")]


def test_what_the_gateway_says_itself_is_not_said_by_a_service() -> None:
    ours = [(b"server", b"x"), (b"date", b"x"), (b"ratelimit", b"x"), (b"x-request-id", b"x"), (b"etag", b'"a"')]

    assert rules.returned(ours, 200) == [(b"etag", b'"a"')]


@pytest.mark.parametrize(("status", "kept"), [(200, 1), (204, 0), (304, 0), (206, 1)])
def test_the_length_of_what_is_not_sent_is_not_said(status: int, kept: int) -> None:
    assert len(rules.returned([(b"content-length", b"5")], status)) == kept


def test_values_are_text_of_one_kind_or_the_other() -> None:
    assert rules.text_of("é".encode()) == rules.text_of(b"\xe9") == "é"


@pytest.mark.parametrize(
    ("headers", "length", "has_body"),
    [
        ([], None, False),
        ([(b"content-length", b"0")], 0, False),
        ([(b"content-length", b"00")], 0, False),
        ([(b"content-length", b"12")], 12, True),
        ([(b"transfer-encoding", b"chunked")], None, True),
    ],
)
def test_a_body_is_announced(headers: list[tuple[bytes, bytes]], length: int | None, has_body: bool) -> None:
    assert rules.announced_length(dict(headers)) == length
    assert rules.has_body(dict(headers)) is has_body


def test_the_first_value_of_a_header() -> None:
    assert rules.value_of([(b"a", b"1"), (b"a", b"2")], b"a") == "1"
    assert rules.value_of([], b"a") == ""
