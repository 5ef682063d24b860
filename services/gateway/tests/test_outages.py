"""The database away, services away: what goes on, what is refused, and how it all comes back."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Receive, Scope, Send

from gateway.settings import Settings
from kit.server import listen
from kit.testing import DatabaseUrl, KeyFolder, eventually

from .databases import Relay, relay_to
from .gateways import (
    Door,
    Upstream,
    add_key,
    answer,
    bearer,
    client,
    gateway_at_work,
    serving,
    settings_of,
    upstream_at_work,
    wire,
)

PREDICT = "/v1/deployments/flights/predict"


@pytest.fixture
async def relay(database_url: DatabaseUrl) -> AsyncIterator[Relay]:
    async with relay_to(database_url("gateway")) as it:
        yield it


@pytest.fixture
def settings(relay: Relay, key_folder: KeyFolder, upstream: Upstream, tmp_path: Path) -> Settings:
    """Impatient: what may be five seconds old is one here."""
    return settings_of(
        relay.url, key_folder, upstream.url, work_dir=tmp_path / "work", fresh_seconds=1, refresh_seconds=0.3
    )


def is_unavailable(answered: httpx2.Response) -> dict[str, Any]:
    assert answered.status_code == 503, answered.text
    assert int(answered.headers["retry-after"]) > 0
    found: dict[str, Any] = answered.json()
    assert found["code"] == "keys-not-current"
    return found


async def test_without_a_database_predictions_go_on_and_the_rest_says_when(door: Door, relay: Relay) -> None:
    async with door.client() as http:
        assert (await http.get("/v1/datasets")).status_code == 200
        await relay.cut()

        async def is_noticed() -> bool:
            return (await http.get("/v1/datasets")).status_code == 503

        await eventually(is_noticed)
        began = time.monotonic()
        for method, path in (
            ("GET", "/v1/datasets"),
            ("POST", "/v1/jobs"),
            ("PUT", "/v1/deployments/a"),
            ("DELETE", "/v1/models/a"),
            ("POST", "/v1/uploads"),
            ("GET", "/v1/keys"),
            ("POST", "/v1/keys"),
            ("GET", "/v1/projects"),
            ("GET", "/v1/audit"),
            ("GET", "/v1/nowhere"),
        ):
            answered = await http.request(method, path, json={} if method in ("POST", "PUT") else None)
            is_unavailable(answered)
            assert answered.headers["content-type"] == "application/problem+json"
        assert time.monotonic() - began < 10
        for path in (PREDICT, "/v2/models/flights/infer"):
            assert (await http.post(path, json={})).status_code == 200
        for path in ("/v2/models/flights/ready", "/v1/whoami", "/readyz", "/livez", "/docs", "/openapi.json"):
            assert (await http.get(path)).status_code == 200
        status = (await http.get("/v1/status")).json()["services"]["gateway"]
        assert status == {"ready": True, "keys_current": False}
        assert (await http.post("/v2/repository/models/a/load", json={})).json()["error"]


async def test_it_comes_back_by_itself(door: Door, relay: Relay) -> None:
    async with door.client() as http:

        async def says(status: int) -> bool:
            return (await http.get("/v1/datasets")).status_code == status

        await says(200)
        await relay.cut()
        await eventually(lambda: says(503))
        await relay.mend()
        await eventually(lambda: says(200))
        assert (await http.post("/v1/keys", json={"name": "new"})).status_code == 201


async def test_strangers_stay_strangers_without_a_database(door: Door, relay: Relay, engine: AsyncEngine) -> None:
    async with door.client() as http:
        await http.get("/v1/datasets")
    await relay.cut()
    unseen = await add_key(engine)  # of a replica that has its database
    async with client(door.port) as http:

        async def is_noticed() -> bool:
            return (await http.get("/v1/datasets", headers=bearer(door.keys["admin"]))).status_code == 503

        await eventually(is_noticed)
        assert (await http.post(PREDICT, json={})).status_code == 401
        assert (await http.post(PREDICT, json={}, headers=bearer("ty_nothing"))).status_code == 401
        is_unavailable(await http.post(PREDICT, json={}, headers=bearer(unseen)))


async def test_a_database_that_is_silent_costs_nobody_more_than_two_seconds(door: Door, relay: Relay) -> None:
    async with door.client() as http:
        await http.get("/v1/datasets")
        relay.silent = True

        async def is_noticed() -> bool:
            return (await http.get("/v1/datasets")).status_code == 503

        await eventually(is_noticed)
        began = time.monotonic()
        assert (await http.post(PREDICT, json={})).status_code == 200
        assert time.monotonic() - began < 1
        answers = await asyncio.gather(*[http.get("/v1/datasets") for _ in range(20)])
        assert [it.status_code for it in answers] == [503] * 20
        assert time.monotonic() - began < 4
        relay.silent = False
        await relay.cut()
        await relay.mend()

        async def is_back() -> bool:
            return (await http.get("/v1/datasets")).status_code == 200

        await eventually(is_back)


async def test_a_gateway_that_starts_without_its_database_goes_on_predicting(
    settings: Settings, relay: Relay, blue: dict[str, str], upstream: Upstream
) -> None:
    async with gateway_at_work(settings) as port, client(port, blue["viewer"]) as http:
        assert (await http.post(PREDICT, json={})).status_code == 200
    await relay.cut()
    async with gateway_at_work(settings) as port, client(port, blue["viewer"]) as http:
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.post(PREDICT, json={})).status_code == 200

        async def is_noticed() -> bool:
            return (await http.get("/v1/datasets")).status_code == 503

        await eventually(is_noticed)
        await relay.mend()

        async def is_back() -> bool:
            return (await http.get("/v1/datasets")).status_code == 200

        await eventually(is_back)


async def test_a_gateway_that_never_saw_a_key_is_not_ready(
    settings: Settings, relay: Relay, blue: dict[str, str]
) -> None:
    await relay.cut()
    async with gateway_at_work(settings) as port, client(port, blue["viewer"]) as http:
        answered = await http.get("/readyz")
        assert (answered.status_code, answered.json()) == (503, {"ready": False, "keys": "never seen"})
        assert (await http.get("/livez")).status_code == 200
        is_unavailable(await http.post(PREDICT, json={}))
        await relay.mend()

        async def is_ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await eventually(is_ready)
        assert (await http.post(PREDICT, json={})).status_code == 200


async def test_a_service_that_is_away_is_said_to_be(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str]
) -> None:
    async with gateway_at_work(settings_of(database_url("gateway"), key_folder)) as port, client(port) as http:
        http.headers |= bearer(blue["admin"])
        for method, path in (("GET", "/v1/datasets"), ("POST", "/v1/jobs"), ("POST", PREDICT)):
            answered = await http.request(method, path, content=b"{}" if method == "POST" else None)
            assert answered.status_code == 503
            assert answered.json()["code"] == "service-unavailable"
            assert answered.headers["retry-after"] == "1"
            assert answered.headers["content-type"] == "application/problem+json"
        refused = await http.post("/v2/models/a/infer", json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/json"
        assert refused.json()["error"] == "The service serving is not answering."
        assert int(refused.headers["content-length"]) == len(refused.content)


async def test_a_service_that_comes_back_is_found_at_once(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str]
) -> None:
    socket = listen("127.0.0.1", 0)
    port_of_service = socket.getsockname()[1]
    socket.close()
    settings = settings_of(database_url("gateway"), key_folder, f"http://127.0.0.1:{port_of_service}")
    async with gateway_at_work(settings) as port, client(port, blue["admin"]) as http:
        for _ in range(30):
            assert (await http.get("/v1/datasets")).status_code == 503
        async with serving(Upstream(), port=port_of_service):
            assert (await http.post("/v1/datasets")).status_code == 200


async def test_another_copy_answers_for_one_that_is_away(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str], upstream: Upstream
) -> None:
    settings = settings_of(database_url("gateway"), key_folder, f"http://127.0.0.1:1, {upstream.url}")
    async with gateway_at_work(settings) as port, client(port, blue["admin"]) as http:
        for number in range(10):
            answered = await http.post("/v1/jobs", json={"n": number})
            assert (answered.status_code, answered.json()["size"]) == (200, len(f'{{"n":{number}}}'))


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("HEAD", 2), ("POST", 1), ("PUT", 1), ("DELETE", 1)])
async def test_what_was_sent_is_sent_again_only_when_that_is_safe(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str], method: str, times: int
) -> None:
    met: list[bytes] = []

    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if b"openapi" in line or b"readyz" in line:  # asked by the gateway itself
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            met.append(line.split()[0])
        writer.close()

    server = await asyncio.start_server(slam, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = settings_of(database_url("gateway"), key_folder, registry_url=url)
    async with server, gateway_at_work(settings) as port, client(port, blue["admin"]) as http:
        assert (await http.request(method, "/v1/models/a")).status_code == 503
        assert met == [method.encode()] * times


async def test_a_service_that_is_silent_is_given_up(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str], upstream: Upstream
) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        upstream.gone.set()

    upstream.replies["/v1/models"] = silent
    settings = settings_of(database_url("gateway"), key_folder, upstream.url, answer_seconds=1)
    async with gateway_at_work(settings) as port, client(port, blue["admin"]) as http:
        began = time.monotonic()
        assert (await http.get("/v1/models")).status_code == 503
        assert time.monotonic() - began < 10
        assert len(upstream.asked("/v1/models")) == 1
        await asyncio.wait_for(upstream.gone.wait(), 5)


async def test_one_key_takes_no_more_than_its_share(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str], upstream: Upstream
) -> None:
    go_on, waiting = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        waiting.set()
        await go_on.wait()
        await answer(send, b"{}")

    upstream.replies["/v1/runs"] = slow
    settings = settings_of(database_url("gateway"), key_folder, upstream.url, in_flight_per_key=1, in_flight=2)
    async with (
        gateway_at_work(settings) as port,
        client(port, blue["admin"]) as ada,
        client(port, blue["editor"]) as eve,
        client(port, blue["viewer"]) as vic,
    ):
        first = asyncio.create_task(ada.get("/v1/runs"))
        await asyncio.wait_for(waiting.wait(), 10)
        refused = await ada.get("/v1/models")
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-at-once")
        assert refused.headers["retry-after"] == "1"
        assert (await eve.get("/v1/models")).status_code == 200
        waiting.clear()
        second = asyncio.create_task(eve.get("/v1/runs"))
        await asyncio.wait_for(waiting.wait(), 10)
        refused = await vic.get("/v1/models")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        go_on.set()
        assert {(await it).status_code for it in (first, second)} == {200}
        assert (await ada.get("/v1/models")).status_code == 200


async def test_a_place_is_given_back_by_a_client_that_leaves(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str]
) -> None:
    async with upstream_at_work() as upstream:
        settings = settings_of(database_url("gateway"), key_folder, upstream.url, in_flight_per_key=1)
        async with gateway_at_work(settings) as port, client(port, blue["admin"]) as http:
            door = Door(port, blue, upstream, settings)
            async with wire(port) as raw:
                await raw.send(door.head("POST /v1/uploads", "Content-Length: 1000"), b"abc")
                await eventually(lambda: upstream.asked("/v1/uploads"))
                assert (await http.get("/v1/models")).status_code == 429

            async def is_free() -> bool:
                return (await http.get("/v1/models")).status_code == 200

            await eventually(is_free)
            assert (await http.post("/v1/nowhere")).status_code == 404  # gives it back as well
            assert (await http.post("/v1/keys", json={})).status_code == 422
            assert (await http.get("/v1/models")).status_code == 200


async def test_a_key_that_comes_too_often_is_told_when_to_come_again(
    database_url: DatabaseUrl, key_folder: KeyFolder, blue: dict[str, str], upstream: Upstream
) -> None:
    settings = settings_of(
        database_url("gateway"), key_folder, upstream.url, requests_per_second=0.5, requests_at_once=3
    )
    async with (
        gateway_at_work(settings) as port,
        client(port, blue["admin"]) as ada,
        client(port, blue["viewer"]) as vic,
    ):
        answers = [await ada.get("/v1/models") for _ in range(4)]
        assert [it.status_code for it in answers] == [200, 200, 200, 429]
        assert [it.headers["ratelimit"].split(";")[1] for it in answers] == ["r=2", "r=1", "r=0", "r=0"]
        assert answers[3].json()["code"] == "rate-exceeded"
        assert answers[3].headers["retry-after"] in ("1", "2")
        assert (await ada.get("/readyz")).status_code == 200
        assert "ratelimit" not in (await ada.get("/readyz")).headers
        assert (await vic.get("/v1/models")).status_code == 200
        refused = await vic.post("/v2/repository/models/a/load")
        assert (refused.status_code, refused.json()["error"]) == (403, refused.json()["detail"])
