"""Errors as RFC 9457 problem details, both ways: raised here, and read from another service."""

import json
import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import httpx2
import orjson
import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from kit import errors
from kit.metrics import AWAY

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
BASE = "https://trainyard.dev/problems/"
STATUS: dict[type[errors.Error], int] = {
    errors.Malformed: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Invalid: 422,
    errors.PreconditionRequired: 428,
    errors.TooMany: 429,
    errors.Corrupt: 502,
    errors.Unavailable: 503,
    errors.TimedOut: 504,
}
# What our own kinds are called on the wire when nobody gave them a narrower name.
CODES = {
    "malformed": "malformed-request",
    "too-large": "content-too-large",
    "unsupported-media": "unsupported-media-type",
    "invalid": "validation-failed",
    "too-many": "rate-limited",
    "corrupt": "artifact-corrupt",
    "unavailable": "dependency-unavailable",
    "timed-out": "deadline-exceeded",
}
SOON = timedelta(seconds=1)
RETRYABLE = {429, 503}
LONGEST_ECHO = 100


def install(app: FastAPI) -> None:
    """Make every failure of `app` a problem document, the framework's own too."""
    for kind in (errors.Error, RequestValidationError, HTTPException, DBAPIError, PoolTimeout, Exception):
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, exc: Exception) -> Response:
    request_id = request.scope.get("state", {}).get("request_id")
    status, headers, body = problem_of(exc, request_id)
    return Response(body, status, headers)


def problem_of(exc: BaseException, request_id: str | None = None) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body that say `exc` to a client. Unexpected ones say nothing of themselves."""
    status, document, headers = _describe(exc)
    document |= {"status": status}
    if request_id is not None:
        document["request_id"] = request_id
    headers = {"content-type": MEDIA_TYPE, **headers}
    return status, headers, orjson.dumps(document, default=str)


def code_of(kind: type[BaseException]) -> str:
    """The problem's `code`: the words of the class name."""
    words = "-".join(_words(kind)).lower()
    return CODES.get(words, words)


def status_of(kind: type[BaseException]) -> int:
    return next((STATUS[c] for c in kind.__mro__ if c in STATUS), 500)


def _describe(exc: BaseException) -> tuple[int, dict[str, Any], dict[str, str]]:
    match exc:
        case errors.Error():
            return _expected(exc)
        case RequestValidationError():
            return _validation(exc)
        case HTTPException():
            status = HTTPStatus(exc.status_code)
            code = status.phrase.lower().replace(" ", "-")
            document = {"type": "about:blank", "title": status.phrase, "code": code}
            return exc.status_code, document, dict(exc.headers or {})
        case DBAPIError() | PoolTimeout() if is_lost_database(exc):
            AWAY.labels("database").inc()
            log.warning("database unavailable", extra={"error": type(exc).__name__})
            return _expected(errors.Unavailable("The database is not answering.", retry_after=SOON))
        case DataError():
            # A NUL in a query, a number of a hundred digits: what no schema refused is still the client's doing.
            log.warning("a value that the database does not take", exc_info=exc)
            return _expected(errors.Invalid("A value of the request is out of all range."))
        case _:
            log.error("unexpected failure", exc_info=exc)
            return 500, {"type": "about:blank", "title": "Internal Server Error", "code": "internal-error"}, {}


def is_lost_database(exc: BaseException) -> bool:
    """True when the connection, not the statement, is what failed."""
    if isinstance(exc, PoolTimeout):
        return True
    if not isinstance(exc, DBAPIError):
        return False
    state = getattr(exc.orig, "sqlstate", None)
    # No state at all: the client library gave up. 08 connection, 57 operator (shutdown, start-up), 53 resources,
    # 55P03 a lock that was not had within the lock_timeout of kit.db.
    return (
        exc.connection_invalidated
        or (state is None and isinstance(exc.orig, psycopg.OperationalError))
        or state == "55P03"
        or str(state)[:2] in {"08", "53", "57"}
    )


def _expected(exc: errors.Error) -> tuple[int, dict[str, Any], dict[str, str]]:
    status, code = status_of(type(exc)), code_of(type(exc))
    document: dict[str, Any] = {
        "type": BASE + code,
        "title": " ".join(_words(type(exc))).capitalize(),
        "code": code,
        "detail": exc.detail,
        **exc.extra,
    }
    if exc.errors:
        document["errors"] = exc.errors
    headers: dict[str, str] = {}
    if status in RETRYABLE or exc.retry_after is not None:
        headers["retry-after"] = str(max(1, round((exc.retry_after or SOON).total_seconds())))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return status, document, headers


def _validation(exc: RequestValidationError) -> tuple[int, dict[str, Any], dict[str, str]]:
    # Never the input itself: it may be a secret, and it may be what JSON cannot say.
    found = [{"pointer": _pointer(e["loc"]), "detail": str(e["msg"])[:300]} for e in exc.errors()]
    document = {
        "type": BASE + "validation-failed",
        "title": "Validation failed",
        "code": "validation-failed",
        "detail": f"{len(found)} value(s) of the request are not valid.",
        "errors": found,
    }
    return 422, document, {}


def _pointer(loc: tuple[int | str, ...]) -> str:
    """Where in the request: `#/a/0` in the body, `?name` in the query, `{name}` in the path."""
    where, *rest = loc
    tail = [str(part)[:LONGEST_ECHO].replace("~", "~0").replace("/", "~1") for part in rest]
    if where == "query":
        return "?" + ".".join(tail)
    if where == "path":
        return "{" + ".".join(tail) + "}"
    if where == "header":
        return "header " + ".".join(tail)
    return "#/" + "/".join(tail) if tail else "#"


def _words(kind: type[BaseException]) -> list[str]:
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*", kind.__name__)


def raise_for_problem(response: httpx2.Response, *, service: str = "") -> None:
    """Raise the error that another service answered with, as one of ours. Its body must have been read.

    A server error other than 502 and 503 is that service's own trouble, and a 408 is about the way there: both are
    `Unavailable` here, with its name.
    """
    if response.is_success:
        return
    problem = _document(response)
    by_status = {status: kind for kind, status in STATUS.items() if kind is not errors.TimedOut}  # we gave no time
    again = response.is_server_error or response.status_code == HTTPStatus.REQUEST_TIMEOUT
    kind = by_status.get(response.status_code, errors.Unavailable if again else errors.Error)
    name = service or response.request.url.host
    detail = str(problem.get("detail") or f"{name} answered {response.status_code}")
    places = problem.get("errors")
    extra = {"upstream_code": problem["code"]} if "code" in problem else {}
    raise kind(
        detail,
        errors=places if isinstance(places, list) else (),
        retry_after=_retry_after(response.headers),
        **extra,
    )


def _document(response: httpx2.Response) -> dict[str, Any]:
    if not response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        return {}
    try:
        document = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    value = headers.get("retry-after", "")
    return timedelta(seconds=int(value)) if value.isascii() and value.isdigit() else None
