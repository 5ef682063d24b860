"""How one service asks another: what it says, what it sends again, and what it makes of the answers."""

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

import httpx2
import pytest
import stamina

from kit import errors, telemetry
from kit.app import Service
from kit.callers import Role
from kit.clients import Principal, ServiceClient, http_client
from kit.events import START, Feed
from kit.testing import KeyFolder, client_of
from kit.tokens import load_signer, load_verifier

ADA = Principal("demo", Role.EDITOR, "ada")
PROBLEM = {"content-type": "application/problem+json"}
Answers = Callable[[httpx2.Request], httpx2.Response]


class Neighbour:
    """Answers what it is told to, in turn, and keeps what it was asked."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def ask(key_folder: KeyFolder) -> Callable[[Neighbour], ServiceClient]:
    def made(neighbour: Neighbour) -> ServiceClient:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(neighbour), base_url="http://lamps")
        return ServiceClient(http, load_signer(key_folder.private("trainer")), "lamps")

    return made


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """The pauses between attempts are stamina's, and tested there."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


Ask = Callable[[Neighbour], ServiceClient]
AWAY = httpx2.ConnectError("refused")


def problem(status: int, code: str, **more: object) -> httpx2.Response:
    return httpx2.Response(status, json={"detail": "Not so.", "code": code, **more}, headers=PROBLEM)


async def test_a_request_says_for_whom_it_is(ask: Ask, key_folder: KeyFolder) -> None:
    neighbour = Neighbour(httpx2.Response(200, json={"a": 1}))
    telemetry.request_id.set("r-1")
    telemetry.traceparent.set(telemetry.child_of(None))
    answer = await ask(neighbour).request(
        ADA, "POST", "/v1/lamps", json={"name": "red"}, params={"a": "b"}, headers={"x-a": "1"}, idempotency_key="k"
    )
    assert answer.json() == {"a": 1}
    (asked,) = neighbour.asked
    assert (str(asked.url), asked.content, asked.headers["x-a"]) == (
        "http://lamps/v1/lamps?a=b",
        b'{"name":"red"}',
        "1",
    )
    assert (asked.headers["x-request-id"], asked.headers["idempotency-key"]) == ("r-1", "k")
    assert asked.headers["traceparent"] == telemetry.traceparent.get()
    caller = load_verifier(key_folder.public, "lamps").verify(asked.headers["authorization"].removeprefix("Bearer "))
    assert (caller.project, caller.role, caller.subject, caller.issuer) == ("demo", Role.EDITOR, "ada", "trainer")


async def test_outside_of_a_request_nothing_is_made_up(ask: Ask) -> None:
    telemetry.request_id.set(None)
    telemetry.traceparent.set(None)
    neighbour = Neighbour(httpx2.Response(200))
    await ask(neighbour).request(ADA, "GET", "/v1/lamps")
    assert not {"x-request-id", "traceparent", "idempotency-key"} & set(neighbour.asked[0].headers)


@pytest.mark.parametrize(
    ("method", "more"), [("GET", {}), ("PUT", {"json": {}}), ("DELETE", {}), ("POST", {"idempotency_key": "k"})]
)
@pytest.mark.parametrize("failure", [AWAY, httpx2.ReadTimeout("late"), 503, 500])
async def test_what_is_safe_is_sent_again(
    ask: Ask, method: str, more: dict[str, object], failure: Exception | int
) -> None:
    failed = [httpx2.Response(failure) if isinstance(failure, int) else failure for _ in range(2)]
    neighbour = Neighbour(*failed, httpx2.Response(200))
    assert (await ask(neighbour).request(ADA, method, "/", **more)).status_code == 200  # type: ignore[arg-type]
    assert len(neighbour.asked) == 3


async def test_three_times_is_enough(ask: Ask) -> None:
    neighbour = Neighbour(AWAY, AWAY, AWAY, httpx2.Response(200))
    with pytest.raises(errors.Unavailable, match="lamps is not answering"):
        await ask(neighbour).request(ADA, "GET", "/")
    assert len(neighbour.asked) == 3


async def body() -> AsyncIterator[bytes]:
    yield b"bytes"


@pytest.mark.parametrize(
    "more", [{"method": "POST"}, {"method": "PUT", "content": body()}, {"method": "POST", "content": b"x"}]
)
async def test_what_may_have_an_effect_twice_is_sent_once(ask: Ask, more: dict[str, object]) -> None:
    neighbour = Neighbour(AWAY)
    with pytest.raises(errors.Unavailable):
        await ask(neighbour).request(ADA, path="/", **more)  # type: ignore[arg-type]
    assert len(neighbour.asked) == 1


async def test_our_own_request_that_is_still_under_way_is_asked_for_again(ask: Ask) -> None:
    neighbour = Neighbour(httpx2.ReadTimeout("late"), problem(409, "idempotency-in-progress"), httpx2.Response(201))
    assert (await ask(neighbour).request(ADA, "POST", "/", json={}, idempotency_key="k")).status_code == 201


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Malformed),
        (401, errors.Unauthenticated),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (412, errors.PreconditionFailed),
        (413, errors.TooLarge),
        (415, errors.UnsupportedMedia),
        (422, errors.Invalid),
        (428, errors.PreconditionRequired),
        (429, errors.TooMany),
        (502, errors.Corrupt),
        (418, errors.Error),
    ],
)
async def test_a_problem_is_the_same_kind_of_error_here(ask: Ask, status: int, kind: type[errors.Error]) -> None:
    places = [{"pointer": "#/a", "detail": "is wrong"}]
    neighbour = Neighbour(problem(status, "some-code", errors=places))
    with pytest.raises(errors.Error, match="Not so") as raised:
        await ask(neighbour).request(ADA, "GET", "/")
    assert type(raised.value) is kind
    assert raised.value.extra == {"upstream_code": "some-code"}
    assert raised.value.errors == places
    assert len(neighbour.asked) == 1


async def test_bytes_come_as_a_stream(ask: Ask) -> None:
    neighbour = Neighbour(httpx2.Response(200, content=b"abc"))
    async with ask(neighbour).stream(ADA, "/v1/lamps/red/light") as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"abc"


@pytest.mark.parametrize(("answer", "kind"), [(AWAY, errors.Unavailable), (problem(404, "x"), errors.NotFound)])
async def test_a_stream_that_does_not_begin_is_an_error(
    ask: Ask, answer: httpx2.Response | Exception, kind: type[errors.Error]
) -> None:
    with pytest.raises(kind):
        async with ask(Neighbour(answer)).stream(ADA, "/"):
            raise AssertionError


async def test_a_stream_that_breaks_is_an_error(ask: Ask) -> None:
    async def torn() -> AsyncIterator[bytes]:
        yield b"abc"
        raise httpx2.ReadError("broken")

    got: list[bytes] = []
    with pytest.raises(errors.Unavailable):
        async with ask(Neighbour(httpx2.Response(200, content=torn()))).stream(ADA, "/") as chunks:
            got = [chunk async for chunk in _into(chunks, got)]
    assert got == [b"abc"]


async def _into(chunks: AsyncIterator[bytes], got: list[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        got.append(chunk)
        yield chunk


async def test_feeds_and_holds_are_the_neighbours_own(app: Service, engine: object, key_folder: KeyFolder) -> None:
    async with client_of(app) as http:
        lamps = ServiceClient(http, load_signer(key_folder.private("trainer")), "lamps")
        await lamps.request(ADA, "POST", "/v1/lamps", json={"name": "red"})
        feed = await lamps.events(START, wait=timedelta(0))
        assert [event.subject for event in feed.events] == ["red"]
        assert await lamps.events(feed.cursor, wait=timedelta(0)) == Feed(events=[], cursor=feed.cursor)

        assert await lamps.hold(ADA, "lamp", "red", "job-1") == "red"
        with pytest.raises(errors.Conflict):
            await lamps.request(ADA, "DELETE", "/v1/lamps/red")
        await lamps.release(ADA, "lamp", "red", "job-1")
        await lamps.release(ADA, "lamp", "red", "job-1")
        await lamps.request(ADA, "DELETE", "/v1/lamps/red")


async def test_no_proxy_stands_between_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:1")
    async with http_client("http://127.0.0.1:1") as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get("/")
