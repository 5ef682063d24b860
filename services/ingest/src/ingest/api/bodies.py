"""Bodies that stream: what they are, by their headers, and their bytes."""

from collections.abc import AsyncIterator
from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from ingest.domain.reports import Compression, Format
from kit import bodies, errors, strictjson

MEDIA: dict[str, Format] = {
    "text/csv": Format.CSV,
    "application/csv": Format.CSV,
    "application/x-ndjson": Format.NDJSON,
    "application/ndjson": Format.NDJSON,
    "application/jsonl": Format.NDJSON,
    "application/vnd.apache.parquet": Format.PARQUET,
}
JSON = "application/json"
M = TypeVar("M", bound=BaseModel)


class BodyCutOff(errors.Malformed): ...


def media_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def format_of(request: Request) -> Format:
    """
    Raises:
        UnsupportedMedia: a body of this kind makes no version.
    """
    media = media_of(request)
    if media not in MEDIA:
        raise errors.UnsupportedMedia(
            f"{media[:100] or 'nothing'!r} is not a type of a version: send {', '.join(MEDIA)}, or JSON with an upload."
        )
    return MEDIA[media]


def compression_of(request: Request) -> Compression | None:
    """
    Raises:
        UnsupportedMedia: it is not one that is known here.
    """
    given = request.headers.get("content-encoding", "identity").strip().lower()
    if given in ("identity", ""):
        return None
    try:
        return Compression(given)
    except ValueError:
        raise errors.UnsupportedMedia(f"{given[:100]!r} is not a Content-Encoding here: gzip, zstd or none.") from None


async def json_of(request: Request, model: type[M]) -> M:
    """A body of JSON, as strict as those that FastAPI reads.

    Raises:
        errors.TooLarge, errors.Malformed, BodyCutOff: as elsewhere.
        errors.UnsupportedMedia: it is compressed.
    """
    if compression_of(request) is not None:
        raise errors.UnsupportedMedia("JSON is taken as it is, without a Content-Encoding.")
    try:
        body = await bodies.read(request.scope, request.receive, limit=bodies.JSON_LIMIT)
    except bodies.ClientGone:
        raise BodyCutOff("The body ended too early.") from None
    strictjson.loads(body)
    return _validated(model, body)


def chunks_of(request: Request, *, limit: int) -> AsyncIterator[bytes]:
    """The body piece by piece: it is never held whole.

    Raises:
        errors.TooLarge: it says itself that it has more than `limit` bytes. Nothing of it is read.
        BodyCutOff: the client left before its end.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise errors.TooLarge(f"At most {limit} bytes are taken here.")
    return _chunks(request)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in bodies.chunks(request.receive):
            yield chunk
    except bodies.ClientGone:
        raise BodyCutOff("The body ended too early.") from None


def _validated(model: type[M], body: bytes) -> M:
    """JSON that a route reads by itself, since it takes other bodies too; refused as FastAPI refuses it."""
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        found = [{**error, "loc": ("body", *error["loc"])} for error in exc.errors(include_context=False)]
        raise RequestValidationError(found) from None
