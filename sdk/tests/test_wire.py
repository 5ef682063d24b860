"""Requests: retries, idempotency keys, problems, pages, waits."""

from datetime import timedelta

import pytest
from fake_suite import Answer, FakeSuite, Lost, problem
from things import job, page

from trainyard import errors
from trainyard.resources.jobs import FINAL
from trainyard.wire import FIRST_TRIES, TRIES, Wire


def test_a_post_carries_one_idempotency_key_through_all_its_tries(suite: FakeSuite, wire: Wire) -> None:
    suite.on("POST", "/v1/jobs", problem(503, "away"), Lost, Answer(202, {"id": "j1"}))
    assert wire.request("POST", "/v1/jobs", json={}).json() == {"id": "j1"}
    keys = {asked.headers["idempotency-key"] for asked in suite.asked}
    assert (len(suite.asked), len(keys)) == (3, 1)


def test_two_posts_have_two_keys(suite: FakeSuite, wire: Wire) -> None:
    suite.on("POST", "/v1/jobs", Answer(202, {}))
    wire.request("POST", "/v1/jobs", json={})
    wire.request("POST", "/v1/jobs", json={})
    assert len({asked.headers["idempotency-key"] for asked in suite.asked}) == 2


def test_a_get_needs_no_key(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v1/jobs", Answer(200, {}))
    wire.get("/v1/jobs")
    assert "idempotency-key" not in suite.asked[0].headers


def test_retry_after_is_obeyed(suite: FakeSuite, wire: Wire, pauses: list[float]) -> None:
    suite.on("GET", "/v1/jobs", problem(429, "slowly", headers={"retry-after": "3"}), Answer(200, {}))
    wire.get("/v1/jobs")
    assert pauses == [3.0]


def test_without_retry_after_the_pauses_grow(suite: FakeSuite, wire: Wire, pauses: list[float]) -> None:
    suite.on("GET", "/v1/jobs", problem(503, "away"))
    with pytest.raises(errors.Unavailable):
        wire.get("/v1/jobs")
    assert len(suite.asked) == TRIES
    assert pauses[0] < pauses[2]


def test_what_is_wrong_is_not_tried_again(suite: FakeSuite, wire: Wire, pauses: list[float]) -> None:
    suite.on("POST", "/v1/jobs", problem(422, "no", errors=[{"pointer": "#/target", "detail": "is missing"}]))
    with pytest.raises(errors.Invalid, match="#/target: is missing"):
        wire.request("POST", "/v1/jobs", json={})
    assert pauses == []


def test_a_copy_of_the_request_in_flight_is_waited_for(suite: FakeSuite, wire: Wire) -> None:
    in_flight = problem(409, "in flight", code="idempotency-in-progress")
    suite.on("POST", "/v1/jobs", in_flight, Answer(202, {"id": "j1"}))
    assert wire.request("POST", "/v1/jobs", json={}).json() == {"id": "j1"}


def test_nobody_there_says_where(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v1/jobs", Lost)
    with pytest.raises(errors.Unreachable, match="http://suite"):
        wire.get("/v1/jobs")


def test_nobody_is_waited_for_who_never_answered(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v1/jobs", Lost)
    with pytest.raises(errors.Unreachable):
        wire.get("/v1/jobs")
    assert len(suite.asked) == FIRST_TRIES


def test_who_answered_before_is_waited_for(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v1/jobs", Answer(200, {}), *[Lost] * (TRIES - 1), Answer(200, {}))
    wire.get("/v1/jobs")
    wire.get("/v1/jobs")


def test_a_put_whose_answer_was_lost_is_told_from_somebody_elses_change(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v1/deployments/a", Answer(200, {}, {"etag": '"3"'}), Answer(200, {}, {"etag": '"4"'}))
    suite.on("PUT", "/v1/deployments/a", Lost, problem(412, "it has changed"), Answer(200, {"name": "a"}))
    assert wire.put("/v1/deployments/a", {"model": "m@2"}) == {"name": "a"}
    assert suite.asked[-1].headers["if-match"] == '"4"'


def test_a_body_is_opened_anew_for_each_try(suite: FakeSuite, wire: Wire) -> None:
    suite.on("POST", "/v1/uploads", problem(503, "away"), Answer(201, {}))
    wire.request("POST", "/v1/uploads", body=lambda: iter([b"ab", b"cd"]))
    assert [asked.body for asked in suite.asked] == [b"abcd", b"abcd"]


def test_a_delete_whose_answer_was_lost_is_done(suite: FakeSuite, wire: Wire) -> None:
    suite.on("DELETE", "/v1/jobs/j1", Lost, problem(404, "gone"))
    wire.delete("/v1/jobs/j1")


def test_a_delete_of_nothing_is_not_found(suite: FakeSuite, wire: Wire) -> None:
    with pytest.raises(errors.NotFound):
        wire.delete("/v1/jobs/j1")


def test_a_delete_names_the_state_when_it_must(suite: FakeSuite, wire: Wire) -> None:
    suite.on("DELETE", "/v1/datasets/a", problem(428, "say which"), Answer(204))
    suite.on("GET", "/v1/datasets/a", Answer(200, {}, {"etag": '"7"'}))
    wire.delete("/v1/datasets/a")
    assert suite.asked[-1].headers["if-match"] == '"7"'


def test_a_held_thing_is_a_conflict(suite: FakeSuite, wire: Wire) -> None:
    suite.on("DELETE", "/v1/datasets/a", problem(409, "held by job j1"))
    with pytest.raises(errors.Conflict, match="held by job j1"):
        wire.delete("/v1/datasets/a")


def test_a_put_creates_without_a_precondition(suite: FakeSuite, wire: Wire) -> None:
    suite.on("PUT", "/v1/deployments/a", Answer(201, {"name": "a"}))
    wire.put("/v1/deployments/a", {"model": "m@1"})
    assert "if-match" not in suite.asked[-1].headers


def test_a_put_changes_what_it_saw(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v1/deployments/a", Answer(200, {}, {"etag": '"3"'}))
    suite.on("PUT", "/v1/deployments/a", Answer(200, {"name": "a"}))
    wire.put("/v1/deployments/a", {"model": "m@2"})
    assert suite.asked[-1].headers["if-match"] == '"3"'


def test_somebody_elses_change_is_a_conflict(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v1/deployments/a", Answer(200, {}, {"etag": '"3"'}))
    suite.on("PUT", "/v1/deployments/a", problem(412, "it has changed"))
    with pytest.raises(errors.Conflict, match="it has changed"):
        wire.put("/v1/deployments/a", {"model": "m@2"})


def test_pages_are_followed_to_the_end(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v1/jobs", Answer(200, page({"n": 1}, {"n": 2}, token="next")), Answer(200, page({"n": 3})))
    assert [item["n"] for item in wire.pages("/v1/jobs", {"pipeline": None})] == [1, 2, 3]
    assert [asked.query for asked in suite.asked] == [{}, {"page_token": "next"}]


def test_a_page_is_asked_for_when_it_is_needed(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v1/jobs", Answer(200, page({"n": 1}, token="next")))
    next(wire.pages("/v1/jobs"))
    assert len(suite.asked) == 1


def test_a_wait_polls_until_the_thing_is_done(suite: FakeSuite, wire: Wire, pauses: list[float]) -> None:
    suite.on("GET", "/v1/jobs/j1", Answer(200, job("running")), Answer(200, job("succeeded")))
    found = wire.await_done("/v1/jobs/j1", lambda job: job["status"]["phase"] in FINAL, None)
    assert found["status"]["phase"] == "succeeded"
    assert suite.asked[0].query == {"wait": "30s"}
    assert len(pauses) == 1  # a server that does not wait is not asked in a hot loop


def test_a_wait_expires(suite: FakeSuite) -> None:
    suite.on("GET", "/v1/jobs/j1", Answer(200, job("running")))
    clock = iter(range(0, 1000, 10))
    with suite.http() as http:
        wire = Wire(http, pause=lambda seconds: None, now=lambda: float(next(clock)))
        with pytest.raises(errors.WaitExpired, match="still running"):
            wire.await_done("/v1/jobs/j1", lambda job: False, timedelta(seconds=60))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.Unauthenticated),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (412, errors.Conflict),
        (413, errors.TooLarge),
        (428, errors.Conflict),
        (500, errors.ProblemError),
    ],
)
def test_each_refusal_is_an_error_of_its_own_kind(
    suite: FakeSuite, wire: Wire, status: int, kind: type[errors.ProblemError]
) -> None:
    suite.on("POST", "/v1/jobs", problem(status, "no", code="why", title="No", request_id="req-9"))
    with pytest.raises(kind) as caught:
        wire.request("POST", "/v1/jobs", json={})
    found = caught.value
    assert (type(found), found.status, found.code, found.detail, found.request_id) == (
        kind,
        status,
        "why",
        "no",
        "req-9",
    )


def test_an_answer_that_is_no_problem_document_is_still_an_error(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v1/jobs", Answer(500, text="<html>", headers={"x-request-id": "req-2"}))
    with pytest.raises(errors.ProblemError, match="The server answered 500") as caught:
        wire.get("/v1/jobs")
    assert caught.value.request_id == "req-2"


def test_errors_of_the_inference_protocol_are_read_too(suite: FakeSuite, wire: Wire) -> None:
    suite.on("GET", "/v2/models/a", Answer(400, {"error": "no such tensor"}))
    with pytest.raises(errors.Invalid, match="no such tensor"):
        wire.get("/v2/models/a")
