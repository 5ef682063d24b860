"""Errors as problem documents, of every kind that a client can cause."""

import re
from datetime import timedelta
from pathlib import Path

import httpx2
import orjson
import psycopg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException

from kit import errors, problems
from kit.app import Service
from kit.db import make_engine
from kit.testing import KeyFolder, client_of

from .lamps.app import Settings, create_app


class QuotaExceeded(errors.TooMany): ...


class ONNXTwinMissing(errors.NotFound): ...


def document(exc: BaseException) -> dict[str, object]:
    return dict(orjson.loads(problems.problem_of(exc, "r-1")[2]))


def test_an_error_says_what_and_where() -> None:
    places: list[errors.Place] = [{"pointer": "#/a", "detail": "is wrong"}]
    exc = QuotaExceeded("Three at most.", errors=places, retry_after=timedelta(seconds=7), limit=3)
    status, headers, _ = problems.problem_of(exc)
    assert (status, headers) == (429, {"content-type": "application/problem+json", "retry-after": "7"})
    assert document(exc) == {
        "type": "https://trainyard.dev/problems/quota-exceeded",
        "title": "Quota exceeded",
        "code": "quota-exceeded",
        "status": 429,
        "detail": "Three at most.",
        "errors": places,
        "limit": 3,
        "request_id": "r-1",
    }


def test_the_class_names_the_problem() -> None:
    assert problems.code_of(ONNXTwinMissing) == "onnx-twin-missing"
    assert problems.code_of(errors.Malformed) == "malformed-request"
    assert problems.status_of(ONNXTwinMissing) == 404
    assert problems.status_of(ValueError) == 500


def test_every_kind_has_a_status_and_is_in_the_tree_that_is_written_down() -> None:
    kinds = errors.Error.__subclasses__()
    written = set(re.findall(r"[├└]── (\w+)", Path(errors.__file__).read_text()))
    ours = {kind for kind in kinds if kind.__module__ == errors.__name__}
    assert {kind.__name__ for kind in ours} == written
    assert set(problems.STATUS) == ours


def test_who_is_not_known_is_told_how_to_say_it() -> None:
    _, headers, _ = problems.problem_of(errors.Unauthenticated("Who?"))
    assert headers["www-authenticate"] == "Bearer"
    assert "retry-after" not in headers


@pytest.mark.parametrize("kind", [errors.Unavailable, errors.TooMany])
def test_what_may_be_tried_again_says_when(kind: type[errors.Error]) -> None:
    assert problems.problem_of(kind("Later."))[1]["retry-after"] == "1"


def test_what_is_unexpected_says_nothing_of_itself() -> None:
    said = document(RuntimeError("/etc/secret"))
    assert said == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "code": "internal-error",
        "status": 500,
        "request_id": "r-1",
    }


def test_the_frameworks_own_errors_are_problems_too() -> None:
    status, headers, _ = problems.problem_of(HTTPException(405, headers={"allow": "GET"}))
    assert (status, headers["allow"]) == (405, "GET")
    assert document(HTTPException(405))["code"] == "method-not-allowed"


def _database_error(state: str | None, kind: type[psycopg.Error] = psycopg.OperationalError) -> OperationalError:
    class Original(kind):  # type: ignore[valid-type,misc]  # psycopg takes the state from the class
        sqlstate = state

    Original.__name__ = kind.__name__
    return OperationalError("select 1", {}, Original("gone"))


@pytest.mark.parametrize("state", ["08006", "57P01", "53300", "55P03", None])
def test_a_database_that_is_away_is_503(state: str | None) -> None:
    exc = _database_error(state)
    assert problems.is_lost_database(exc)
    status, headers, _ = problems.problem_of(exc)
    assert (status, headers["retry-after"]) == (503, "1")


def test_a_connection_that_takes_too_long_is_503_too() -> None:
    assert problems.problem_of(_database_error(None, psycopg.errors.ConnectionTimeout))[0] == 503


def test_a_pool_that_is_empty_is_503_too() -> None:
    assert problems.problem_of(PoolTimeout())[0] == 503


@pytest.mark.parametrize("exc", [_database_error("42601"), ValueError(), _database_error(None, psycopg.DataError)])
def test_a_statement_that_is_wrong_is_no_lost_database(exc: Exception) -> None:
    assert not problems.is_lost_database(exc)
    assert problems.problem_of(exc)[0] == 500


async def test_a_value_that_no_schema_refused_and_the_database_does_is_422(engine: AsyncEngine) -> None:
    for value in ("a\0b", 1 << 70):
        with pytest.raises(DataError) as refused:
            async with engine.begin() as connection:
                await connection.execute(sa.text("select cast(:value as bigint)"), {"value": value})
        said = document(refused.value)
        assert (said["status"], said["code"]) == (422, "validation-failed")
        assert "select" not in str(said)


async def test_places_are_pointers_and_values_are_not_said(client: httpx2.AsyncClient) -> None:
    secret = {"name": ["hunter2"], "a/b~c": "hunter2"}
    answer = await client.post("/v1/lamps", json=secret)
    assert answer.status_code == 422
    assert {place["pointer"] for place in answer.json()["errors"]} == {"#/name", "#/a~1b~0c"}
    assert "hunter2" not in answer.text
    answer = await client.post("/v1/lamps")
    assert [place["pointer"] for place in answer.json()["errors"]] == ["#"]
    answer = await client.get("/v1/lamps?page_size=hunter2")
    assert [place["pointer"] for place in answer.json()["errors"]] == ["?page_size"]
    assert "hunter2" not in answer.text


def test_places_in_paths_and_headers_have_their_own_form() -> None:
    assert problems._pointer(("path", "name")) == "{name}"
    assert problems._pointer(("header", "x-a")) == "header x-a"
    assert problems._pointer(("body", "a" * 500)) == "#/" + "a" * 100


async def test_a_route_whose_database_is_away_answers_503(settings: Settings, key_folder: KeyFolder) -> None:
    nowhere = SecretStr("postgresql+psycopg://u:p@/d?host=/nowhere")
    app = create_app(settings.model_copy(update={"database_url": nowhere}))
    async with client_of(app, key_folder.headers("lamps")) as client:
        answer = await client.get("/v1/lamps")
    assert (answer.status_code, answer.json()["code"]) == (503, "dependency-unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_a_pool_gives_up_early(settings: Settings) -> None:
    engine = make_engine(settings.url, connections=1)
    async with engine.connect():
        with pytest.raises(PoolTimeout):
            await engine.connect()
    await engine.dispose()


@pytest.mark.parametrize(
    ("response", "detail"),
    [
        (httpx2.Response(404, text="<html>"), "lamps answered 404"),
        (httpx2.Response(404, text="{", headers={"content-type": problems.MEDIA_TYPE}), "lamps answered 404"),
        (httpx2.Response(404, text="[1]", headers={"content-type": problems.MEDIA_TYPE}), "lamps answered 404"),
        (httpx2.Response(404, content=b"\xff\xfe", headers={"content-type": problems.MEDIA_TYPE}), "answered 404"),
    ],
)
def test_a_neighbour_that_says_no_problem_still_says_its_status(response: httpx2.Response, detail: str) -> None:
    with pytest.raises(errors.NotFound, match=detail):
        problems.raise_for_problem(response, service="lamps")


def test_a_neighbours_wish_for_time_is_passed_on() -> None:
    response = httpx2.Response(503, headers={"retry-after": "9"})
    with pytest.raises(errors.Unavailable) as raised:
        problems.raise_for_problem(response, service="lamps")
    assert raised.value.retry_after == timedelta(seconds=9)
    response = httpx2.Response(500, headers={"retry-after": "soon"}, request=httpx2.Request("GET", "http://lamps/"))
    with pytest.raises(errors.Unavailable, match="lamps answered 500") as raised:
        problems.raise_for_problem(response)
    assert raised.value.retry_after is None


def test_a_neighbour_that_waited_too_long_for_us_may_be_asked_again() -> None:
    with pytest.raises(errors.Unavailable, match="lamps answered 504"):
        problems.raise_for_problem(httpx2.Response(504), service="lamps")
    with pytest.raises(errors.Unavailable, match="lamps answered 408"):
        problems.raise_for_problem(httpx2.Response(408), service="lamps")


async def test_what_is_not_there_and_what_is_not_done_are_problems(client: httpx2.AsyncClient, app: Service) -> None:
    for method, path, code in (("GET", "/v1/nothing", "not-found"), ("PATCH", "/v1/lamps", "method-not-allowed")):
        answer = await client.request(method, path)
        assert (answer.headers["content-type"], answer.json()["code"]) == (problems.MEDIA_TYPE, code)
