"""Strong ETags for things that change: who changes one says which state of it he has seen (RFC 9110, §13)."""

import hashlib

from fastapi import Request

from kit import errors


class Changed(errors.PreconditionFailed): ...


class IfMatchMissing(errors.PreconditionRequired): ...


def etag_of(state: str) -> str:
    """A strong ETag of whatever tells two states of a thing apart."""
    return f'"{hashlib.sha256(state.encode()).hexdigest()[:32]}"'


def require_match(request: Request, etag: str) -> None:
    """Let a request go on that means to change the state with this ETag.

    Raises:
        IfMatchMissing: it does not say which state it means.
        Changed: it means another one.
    """
    given = request.headers.getlist("if-match")
    if not given:
        raise IfMatchMissing("It exists already: send If-Match with its ETag to change it.", etag=etag)
    if not _matches(given, etag):
        raise Changed("It has changed since you read it: read it again, and decide again.", etag=etag)


def check_match(request: Request, etag: str) -> None:
    """Like `require_match`, but a request without If-Match means any state: for DELETE.

    Raises:
        Changed: the request means another state.
    """
    given = request.headers.getlist("if-match")
    if given and not _matches(given, etag):
        raise Changed("It has changed since you read it: read it again, and decide again.", etag=etag)


def forbids_existing(request: Request) -> bool:
    """Whether the request means to create only: `If-None-Match: *`."""
    return request.headers.get("if-none-match", "").strip() == "*"


def _matches(given: list[str], etag: str) -> bool:
    tags = [tag.strip() for line in given for tag in line.split(",")]
    # A weak one never matches here: If-Match compares strongly.
    return "*" in tags or etag in tags
