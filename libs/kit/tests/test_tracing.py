"""Which spans there are, whose trace they are of, and what they say; with somebody who hears of them, and without."""

from collections.abc import Iterator

import httpx2
import pytest
import stamina

from kit import errors, tracing
from kit.app import Service
from kit.callers import Role
from kit.clients import Principal, ServiceClient
from kit.testing import KeyFolder, client_of
from kit.testing_traces import Collector
from kit.tokens import load_signer
from kit.tracing import Kind, Span

PARENT = "00-0123456789abcdef0123456789abcdef-bbbbbbbbbbbbbbbb-01"
UNSAMPLED = PARENT[:-2] + "00"
ADA = Principal("demo", Role.EDITOR, "ada")


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    """All that ended, while somebody hears of them."""
    found: list[Span] = []
    with tracing.sent_to(found.append):
        yield found
    assert not tracing.is_on()


def test_a_span_goes_on_with_the_trace_of_its_parent(spans: list[Span]) -> None:
    with tracing.span("outer", parent=PARENT, size=3):
        tracing.note(project="demo")
        with tracing.span("inner", kind=Kind.CLIENT):
            pass
    inner, outer = spans
    assert (outer.parent, outer.context[3:35]) == (PARENT[36:52], PARENT[3:35])
    assert (inner.parent, inner.context[3:35], inner.kind) == (outer.context[36:52], PARENT[3:35], Kind.CLIENT)
    assert outer.attributes == {"size": 3, "trainyard.project": "demo"}
    assert outer.began <= inner.began <= inner.ended <= outer.ended
    assert tracing.traceparent.get() is None


@pytest.mark.parametrize("parent", [None, "", "00-short", PARENT.replace("-01", "-0g"), f"00-{'0' * 32}-{'1' * 16}-01"])
def test_a_bad_parent_begins_a_new_trace(spans: list[Span], parent: str | None) -> None:
    with tracing.span("alone", parent=parent):
        pass
    assert spans[0].parent == ""
    assert tracing.id_in(spans[0].context)


def test_who_begins_a_trace_decides_whether_it_is_kept() -> None:
    found: list[Span] = []
    with tracing.sent_to(found.append, ratio=0.0):
        for parent in (None, UNSAMPLED, PARENT):
            with tracing.span("work", parent=parent):
                pass
    assert [span.parent for span in found] == [PARENT[36:52]]


def test_what_a_span_ended_with_is_said_by_its_kind_and_never_in_its_words(spans: list[Span]) -> None:
    with pytest.raises(ValueError, match="secret"), tracing.span("work"):
        raise ValueError("a secret")
    assert spans[0].error == "ValueError"
    assert "secret" not in repr(spans[0])


def test_what_did_nothing_leaves_no_span(spans: list[Span]) -> None:
    tracing.note(nobody="hears")
    tracing.skip()
    with tracing.span("look"):
        tracing.skip()
    with tracing.quietly(), tracing.span("asked again and again"):
        pass
    assert spans == []


def test_without_anybody_who_hears_the_trace_goes_on_all_the_same() -> None:
    with tracing.span("work", parent=PARENT), tracing.call("lamps", "GET", "/") as mine:
        assert mine is None
        assert (tracing.said_in(mine) or "")[3:35] == PARENT[3:35]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx2.Response(200, json={}), ""),
        (httpx2.Response(404, json={}), "404"),
        (httpx2.ConnectError("refused"), "ConnectError"),
    ],
)
async def test_a_call_to_a_neighbour_is_a_span_and_the_parent_of_what_it_causes(
    spans: list[Span], key_folder: KeyFolder, answer: httpx2.Response | Exception, error: str
) -> None:
    asked: list[httpx2.Request] = []

    def neighbour(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(neighbour), base_url="http://lamps")
    client = ServiceClient(http, load_signer(key_folder.private("trainer")), "lamps")
    with tracing.span("work", parent=PARENT), stamina.set_testing(True, attempts=2, cap=True):
        try:
            await client.request(ADA, "GET", "/v1/lamps")
        except errors.Error:
            assert error
    *calls, work = spans
    assert {(it.kind, it.parent) for it in calls} == {(Kind.CLIENT, work.context[36:52])}
    assert [it.context for it in calls] == [request.headers["traceparent"] for request in asked]
    assert {it.error for it in calls} == {error}


async def test_a_request_is_a_span_with_its_route_and_health_is_none(
    spans: list[Span], app: Service, key_folder: KeyFolder
) -> None:
    async with client_of(app, key_folder.headers("lamps")) as client:
        await client.get("/livez", headers={"traceparent": PARENT})
        await client.get("/v1/nothing/of/the/kind", headers={"traceparent": PARENT})
    [span] = [it for it in spans if it.kind is Kind.SERVER]
    assert (span.name, span.parent, span.error) == ("GET unmatched", PARENT[36:52], "")
    assert span.attributes["http.response.status_code"] == 404


async def test_a_collector_is_told_where_one_is_named(collector: Collector) -> None:
    with tracing.exported("trainyard-lamps", collector.url):
        assert tracing.is_on()
        with tracing.span("work"):
            pass
    assert [it.name for it in collector.spans] == ["work"]
    with tracing.exported("trainyard-lamps", None):
        assert not tracing.is_on()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().running() as it:
        yield it
