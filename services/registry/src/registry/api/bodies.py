"""Bodies that a route reads by itself: files piece by piece, and JSON where no transaction may wait for it."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from kit import bodies, errors, strictjson

M = TypeVar("M", bound=BaseModel)


class BodyCutOff(errors.Malformed): ...


def check_head(request: Request, limit: int) -> None:
    """Refuse a file that need not be read to be refused.

    Raises:
        errors.UnsupportedMedia: it is packed, or a form.
        errors.TooLarge: it says itself that it is too large.
    """
    _refuse_encoding(request, "Files are sent as they are, without a Content-Encoding.")
    if request.headers.get("content-type", "").strip().lower().startswith("multipart/"):
        raise errors.UnsupportedMedia("The body is the file itself, and no form: with curl, `-T FILE`.")
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise errors.TooLarge(f"A file has {limit} bytes at most.")


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The body piece by piece: it is never held whole.

    Raises:
        BodyCutOff: the client left before its end.
    """
    try:
        async for chunk in bodies.chunks(request.receive):
            yield chunk
    except bodies.ClientGone:
        raise BodyCutOff("The body ended too early.") from None


async def json_of(request: Request, model: type[M]) -> M:
    """A body of JSON, as strict as those that FastAPI reads.

    Raises:
        errors.TooLarge, errors.Malformed, BodyCutOff, RequestValidationError: as elsewhere.
        errors.UnsupportedMedia: it is packed, or no JSON.
    """
    _refuse_encoding(request, "JSON is taken as it is, without a Content-Encoding.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise errors.UnsupportedMedia("The body is JSON: send it with Content-Type: application/json.")
    try:
        body = await bodies.read(request.scope, request.receive, limit=bodies.JSON_LIMIT)
    except bodies.ClientGone:
        raise BodyCutOff("The body ended too early.") from None
    strictjson.loads(body)
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        found = [{**error, "loc": ("body", *error["loc"])} for error in exc.errors(include_context=False)]
        raise RequestValidationError(found) from None


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """For `openapi_extra`: what FastAPI would say of a body that it reads itself."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})
    content = {"application/json": {"schema": _inlined(schema, parts)}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: Any, parts: Mapping[str, Any]) -> Any:
    # The document has its own place for parts, and FastAPI alone writes there.
    match schema:
        case {"$ref": str(name), **more}:
            return {**_inlined(parts[name.rpartition("/")[2]], parts), **more}
        case dict():
            return {name: _inlined(value, parts) for name, value in schema.items()}
        case list():
            return [_inlined(value, parts) for value in schema]
        case _:
            return schema


def _refuse_encoding(request: Request, detail: str) -> None:
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise errors.UnsupportedMedia(detail)
