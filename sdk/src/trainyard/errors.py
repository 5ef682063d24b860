"""What can go wrong between a client and the suite. Everything raised on purpose is a TrainyardError.

TrainyardError
├── NotConfigured        no URL or no API key was found
├── Unreachable          nobody answers at the URL
├── WaitExpired          the thing waited for is not done yet
└── ProblemError         the suite refused: an RFC 9457 problem document
    ├── Unauthenticated 401, Forbidden 403, NotFound 404, Conflict 409 (and 412, 428), TooLarge 413
    └── Invalid 400 and 422, TooMany 429, Unavailable 502 to 504
"""

import json
from collections.abc import Mapping
from typing import Any


class TrainyardError(Exception):
    """A failure that the caller can understand."""


class NotConfigured(TrainyardError):
    """No URL or no API key was found."""


class Unreachable(TrainyardError):
    """Nobody answers at the URL."""


class WaitExpired(TrainyardError):
    """The time to wait is over, and the thing waited for is not done."""


class ProblemError(TrainyardError):
    """The suite refused, and says why."""

    def __init__(self, status: int, document: Mapping[str, Any], *, retry_after: float | None = None) -> None:
        self.status = status
        self.code = str(document.get("code", ""))
        self.title = str(document.get("title", ""))
        self.detail = str(document.get("detail") or self.title or f"The server answered {status}.")
        self.errors: list[Mapping[str, Any]] = list(document.get("errors") or [])
        self.request_id: str | None = document.get("request_id")
        self.retry_after = retry_after
        self.document = document
        self.tries = 1
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        places = [f"{place.get('pointer', '')}: {place.get('detail', '')}" for place in self.errors]
        return "\n  ".join([self.detail, *places])


class Unauthenticated(ProblemError):
    """401: the API key is missing, unknown, revoked or expired."""


class Forbidden(ProblemError):
    """403: the key's role or scopes do not allow this."""


class NotFound(ProblemError):
    """404: there is no such thing in the key's project."""


class Conflict(ProblemError):
    """409, 412, 428: the request is sound, but not in the present state of the thing."""


class TooLarge(ProblemError):
    """413: more bytes than this place takes."""


class Invalid(ProblemError):
    """400, 415, 422: the request breaks a rule; `errors` names each place."""


class TooMany(ProblemError):
    """429: too often, or too much at once."""


class Unavailable(ProblemError):
    """502, 503, 504: something needed is not answering; trying again may help."""


KINDS: dict[int, type[ProblemError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: TooLarge,
    415: Invalid,
    422: Invalid,
    428: Conflict,
    429: TooMany,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def problem_of(status: int, headers: Mapping[str, str], body: bytes) -> ProblemError:
    """The error that an answer of 400 or more says, whatever its form."""
    document: dict[str, Any] = {}
    try:
        read = json.loads(body)
    except ValueError:
        read = None
    if isinstance(read, dict):
        document = read
        if isinstance(read.get("error"), str):  # the Open Inference Protocol's form
            document = {"detail": read["error"], **read}
    if document.get("request_id") is None and headers.get("x-request-id"):
        document["request_id"] = headers["x-request-id"]
    after = headers.get("retry-after", "")
    return KINDS.get(status, ProblemError)(status, document, retry_after=float(after) if after.isdigit() else None)
