"""Server-sent events: reading, and going on after a lost connection."""

import pytest
from fake_suite import Answer, FakeSuite, Lost, problem

from trainyard import errors
from trainyard.client import Client
from trainyard.events import TRIES, Event, events_of, follow
from trainyard.wire import Wire

END = "event: end\ndata: {}\n\n"


def event(id: int, text: str) -> str:
    return f'id: {id}\nevent: log\ndata: {{"message": "{text}"}}\n\n'


def test_events_have_id_kind_and_json() -> None:
    lines = ["id: 7", "event: log", 'data: {"a": 1}', ""]
    assert list(events_of(lines)) == [Event("7", "log", {"a": 1})]


def test_several_data_lines_are_one_text() -> None:
    assert [event.data for event in events_of(["data: a", "data: b", ""])] == ["a\nb"]


def test_heartbeats_and_unknown_fields_are_nothing() -> None:
    assert list(events_of([": ping", "", "retry: 5", ""])) == []


def test_half_an_event_at_the_end_is_none() -> None:
    assert list(events_of(["id: 1", "data: a"])) == []


def test_a_lost_stream_goes_on_after_the_last_event(suite: FakeSuite, wire: Wire) -> None:
    suite.on(
        "GET",
        "/logs",
        Answer(200, text=event(1, "one") + event(2, "two") + "id: 3\ndata: ha", broken=True),
        problem(503, "restarting"),
        Answer(200, text=event(3, "three") + END),
    )
    found = [event.data["message"] for event in follow(wire, "/logs")]
    assert found == ["one", "two", "three"]
    assert [asked.headers.get("last-event-id") for asked in suite.asked] == [None, "2", "2"]
    assert suite.asked[0].headers["accept"] == "text/event-stream"


def test_a_stream_that_ends_without_its_end_is_asked_again(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/logs", Answer(200, text=event(1, "one")), Answer(200, text=event(2, "two") + END))
    assert [event.id for event in follow(wire, "/logs")] == ["1", "2"]


@pytest.mark.parametrize(("answer", "kind"), [(Lost, errors.Unreachable), (Answer(200, text=""), errors.Unreachable)])
def test_a_stream_that_brings_nothing_is_an_error_in_the_end(
    suite: FakeSuite, wire: Wire, pauses: list[float], answer: Answer, kind: type[Exception]
) -> None:
    suite.on("GET", "/logs", answer)
    with pytest.raises(kind):
        list(follow(wire, "/logs"))
    assert len(suite.asked) == TRIES
    assert pauses == sorted(pauses)


def test_a_refusal_is_raised_at_once(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/logs", problem(404, "no such job"))
    with pytest.raises(errors.NotFound, match="no such job"):
        list(follow(wire, "/logs"))


def test_a_jobs_log_ends_with_the_job(suite: FakeSuite, client: Client) -> None:
    suite.on("GET", "/v1/jobs/j1/logs", Answer(200, text=event(1, "fitting") + END))
    assert [line.message for line in client.jobs.logs("j1", follow=True)] == ["fitting"]
