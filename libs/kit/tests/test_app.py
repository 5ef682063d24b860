"""How a service is put together, and what it says of itself."""

import asyncio
import contextvars
import dataclasses
import io
import json
import logging
import signal
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY

from kit import routes, telemetry, tracing
from kit.app import Service, background, health
from kit.testing import KeyFolder, client_of, eventually

from .lamps.app import ECHO, Settings, create_app


async def test_a_process_shows_that_it_lives_and_whether_it_can_work(settings: Settings) -> None:
    app = create_app(settings, ready={"models": ["flights"]})
    async with client_of(app) as client:
        assert (await client.get("/livez")).json() == {"live": True}
        lacking = await client.get("/readyz")
        assert (lacking.status_code, lacking.json()) == (503, {"ready": False, "models": ["flights"]})


async def test_readiness_is_off_while_draining_and_life_is_not(app: Service) -> None:
    async with client_of(app) as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True})
        assert (await client.head("/readyz")).status_code == 200
        app.draining = True
        assert (await client.get("/readyz")).json() == {"ready": False, "draining": True}
        assert (await client.get("/livez")).status_code == 200


async def test_a_process_of_loops_shows_its_health_and_nothing_else(key_folder: KeyFolder) -> None:
    async with client_of(health()) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/v1/lamps", headers=key_folder.headers("lamps"))).status_code == 401


async def test_metrics_may_be_kept_off(app: Service) -> None:
    async with client_of(Service(app.api, authenticators={}, metrics=False)) as client:
        assert (await client.get("/metrics")).status_code == 401


async def test_the_document_knows_raw_routes_and_no_internal_ones(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["paths"]["/v1/echo/{name}"] == {"post": {"summary": "Say it again"}}
    assert {"get", "post"} <= set(document["paths"]["/v1/lamps"])
    assert not [path for path in document["paths"] if path.startswith("/internal")]


async def test_raw_routes_of_the_same_path_keep_their_verbs(app: Service) -> None:
    get = dataclasses.replace(ECHO, openapi={"get": {"summary": "Say it"}})
    both = Service(app.api, raw=[ECHO, get], authenticators={})
    assert set(both.openapi()["paths"]["/v1/echo/{name}"]) == {"get", "post"}


def counted(**labels: str) -> float:
    return REGISTRY.get_sample_value("trainyard_requests_total", labels) or 0.0


async def test_a_request_has_one_name_in_answer_and_problem(client: httpx2.AsyncClient) -> None:
    given = await client.get("/v1/nothing", headers={"x-request-id": "mine-1"})
    assert (given.headers["x-request-id"], given.json()["request_id"]) == ("mine-1", "mine-1")
    for bad in ("", "a b", "x" * 129, "caf\u00e9"):
        named = await client.get("/livez", headers=httpx2.Headers([(b"x-request-id", bad.encode())]))
        assert named.headers["x-request-id"] not in ("", bad)
        assert len(named.headers["x-request-id"]) == 36


async def test_requests_are_counted_by_their_routes_and_not_by_their_paths(client: httpx2.AsyncClient) -> None:
    of_route = {"method": "GET", "route": "/v1/lamps", "status": "200"}
    unmatched = {"method": "GET", "route": "unmatched", "status": "404"}
    before = counted(**of_route), counted(**unmatched)
    await client.get("/v1/lamps?page_size=7")
    await client.get("/v1/nothing/a")
    await client.get("/v1/nothing/b")
    assert (counted(**of_route) - before[0], counted(**unmatched) - before[1]) == (1, 2)


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "01-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "G" * 32 + "-" + "1" * 16 + "-01",
    ],
)
def test_a_bad_parent_begins_a_new_trace(parent: str | None) -> None:
    made = telemetry.child_of(parent)
    assert tracing._TRACE.fullmatch(made)
    assert made != telemetry.child_of(parent)
    assert made.endswith("-01")


def test_a_good_parent_goes_on() -> None:
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"
    made = telemetry.child_of(parent)
    assert made.startswith("00-" + "a" * 32 + "-")
    assert made.endswith("-00")
    assert made != parent


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    telemetry.configure_logging("lamps", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    telemetry._lines = telemetry._Lines()


async def test_every_line_of_a_log_is_json_and_says_which_request(
    client: httpx2.AsyncClient, lines: io.StringIO
) -> None:
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    await client.get("/v1/lamps", headers={"x-request-id": "r-9", "traceparent": parent})
    await client.get("/livez")  # asked every second by whoever watches: not worth a line
    await eventually(lines.getvalue)
    (line,) = [json.loads(text) for text in lines.getvalue().splitlines()]
    assert line["event"] == "answered"
    assert list(line)[:5] == ["time", "level", "service", "logger", "event"]
    assert line["seconds"] > 0
    assert (line["service"], line["logger"], line["level"]) == ("lamps", "kit.access", "info")
    assert (line["route"], line["status"], line["request_id"], line["trace_id"]) == ("/v1/lamps", 200, "r-9", "a" * 32)


async def test_an_id_is_said_as_it_was_given(client: httpx2.AsyncClient, lines: io.StringIO) -> None:
    given = ['"', "\\", '\\"},{"', "a-b"]
    for identity in given:
        await client.get("/v1/lamps", headers={"x-request-id": identity})
    telemetry.flush()
    assert [json.loads(text)["request_id"] for text in lines.getvalue().splitlines()] == given


async def test_what_is_still_to_be_said_is_said_at_the_end(client: httpx2.AsyncClient, lines: io.StringIO) -> None:
    for _ in range(3):
        await client.get("/v1/lamps")
    telemetry.flush()
    assert [json.loads(text)["status"] for text in lines.getvalue().splitlines()] == [200, 200, 200]
    telemetry.flush()
    assert lines.getvalue().count("\n") == 3


async def test_a_stream_that_is_closed_stops_no_request(client: httpx2.AsyncClient, lines: io.StringIO) -> None:
    lines.close()
    assert (await client.get("/v1/lamps")).status_code == 200
    telemetry.flush()


def test_a_line_has_no_colours(lines: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("begun", extra={"color_message": "\x1b[1mbegun", "port": 1})
    line = json.loads(lines.getvalue())
    assert line["port"] == 1
    assert "color_message" not in line


def test_a_line_outside_of_requests_names_none_and_tells_failures(lines: io.StringIO) -> None:
    telemetry.request_id.set(None)
    telemetry.traceparent.set(None)
    try:
        raise ZeroDivisionError("quite")
    except ZeroDivisionError:
        logging.getLogger("lamps").exception("failed", extra={"lamp": object})
    line = json.loads(lines.getvalue())
    assert "quite" in line["exception"]
    assert line["lamp"] == "<class 'object'>"
    assert not {"request_id", "trace_id"} & set(line)


async def test_loops_beside_requests_end_with_the_process() -> None:
    ended = []

    async def loop(stop: asyncio.Event) -> None:
        await stop.wait()
        ended.append(1)

    async with background(loop, loop):
        assert ended == []
    assert ended == [1, 1]


async def test_a_loop_that_fails_asks_the_process_to_end_and_is_told_at_its_end() -> None:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)

    async def loop(stop: asyncio.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with background(loop):
            await asyncio.wait_for(asked.wait(), 5)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


def test_a_line_says_which_request_it_belongs_to() -> None:
    said = contextvars.copy_context().run(_line_of_a_request)

    assert (said["request_id"], said["trace_id"]) == ("r-1", "c" * 32)


def _line_of_a_request() -> dict[str, Any]:
    telemetry.request_id.set("r-1")
    telemetry.traceparent.set("00-" + "c" * 32 + "-" + "d" * 16 + "-01")
    line: dict[str, Any] = json.loads(telemetry.JsonFormatter("lamps").format(logging.makeLogRecord({"msg": "lit"})))
    return line


def test_where_no_log_is_configured_requests_are_lines_as_all_others(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kit.access"):
        telemetry._Lines().answered("GET", "/v1/lamps", 204, 0.1, "id", "")

    assert [(record.getMessage(), vars(record)["status"]) for record in caplog.records] == [("answered", 204)]


async def test_paths_that_are_found_without_a_search_are_few(app: Service) -> None:
    for number in range(routes.KEPT + 2):
        match = app.routes.find("POST", f"/v1/echo/{number}")
        assert match is not None
        assert match.params == {"name": str(number)}
    assert app.routes.find("POST", "/v1/echo/1") is not None
    assert app.routes.find("POST", "/v1/echo/" + "x" * routes.KEPT_PATH) is not None
    assert 0 < len(app.routes._found) <= routes.KEPT


def test_only_raw_routes_that_say_so_are_prompt(app: Service) -> None:
    prompt = Service(app.api, raw=[dataclasses.replace(ECHO, is_prompt=True)], authenticators={})
    asked = [("POST", "/v1/echo/a"), ("POST", "/v1/nothing"), ("GET", "/livez")]
    assert [prompt.is_prompt({"method": method, "path": path}) for method, path in asked] == [True, False, False]
    assert not app.is_prompt({"method": "POST", "path": "/v1/echo/a"})
