"""One API document of all services' own: the public paths, with names that cannot clash."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.domain.requests import is_inference_protocol

VERSION = "3.1.0"
BEARER = "apiKey"
_PUBLIC = re.compile(r"/v[12](/.*)?")
_METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
_COMPONENTS = "#/components/"
# What a framework says of its own errors: nobody here answers like that.
_NEVER = {"HTTPValidationError", "ValidationError"}
_PLACE = {
    "type": "object",
    "required": ["pointer", "detail"],
    "properties": {"pointer": {"type": "string", "examples": ["#/name"]}, "detail": {"type": "string"}},
}
_PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457: why the request was refused. Programs branch on `code`.",
    "type": "object",
    "required": ["type", "title", "status", "code"],
    "properties": {
        **{name: {"type": "string"} for name in ("type", "title", "code", "detail", "request_id")},
        "status": {"type": "integer"},
        "errors": {"type": "array", "items": _PLACE},
    },
}
_REFUSAL = {
    "title": "Refusal",
    "description": "Why the request was refused, as the Open Inference Protocol says it.",
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}


def merge(documents: Mapping[str, Mapping[str, Any] | None], *, version: str) -> dict[str, Any]:
    """The document of the suite. None stands for a service that has not answered yet; it is named as missing."""
    paths: dict[str, Any] = {}
    components: dict[str, dict[str, Any]] = {}
    for service, document in documents.items():
        for path, item in _public_paths(service, document or {}):
            paths[path] = {**paths.get(path, {}), **item}
        for kind, named in (document or {}).get("components", {}).items():
            renamed = {
                _name(service, name): _renamed(service, value) for name, value in named.items() if name not in _NEVER
            }
            components.setdefault(kind, {}).update(renamed)
    components.setdefault("schemas", {}).update(Problem=_PROBLEM, Refusal=_REFUSAL)
    components["securitySchemes"] = {
        BEARER: {"type": "http", "scheme": "bearer", "description": "Your API key: `ty_…`."}
    }
    missing = sorted(service for service, document in documents.items() if document is None)
    return {
        "openapi": VERSION,
        "info": {"title": "Trainyard", "version": version, "description": _description(missing)},
        "paths": dict(sorted(paths.items())),
        "components": components,
        "security": [{BEARER: []}],
        "x-unavailable": missing,
    }


def _description(missing: Iterable[str]) -> str:
    names = ", ".join(missing)
    return "From raw data to a model that serves." + (
        f" Not answering just now, and missing here: {names}." if names else ""
    )


def _public_paths(service: str, document: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    for path, item in document.get("paths", {}).items():
        if _PUBLIC.fullmatch(path):
            refusal = _response("application/json", "Refusal") if is_inference_protocol(path) else _response(*_USUAL)
            yield path, {name: _operation(service, name, value, refusal) for name, value in item.items()}


_USUAL = ("application/problem+json", "Problem")


def _response(media_type: str, schema: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"$ref": f"{_COMPONENTS}schemas/{schema}"}}}
    return {"description": "It is refused, and why.", "content": content}


def _operation(service: str, name: str, value: Any, refusal: Mapping[str, Any]) -> Any:
    renamed = _renamed(service, value)
    if name not in _METHODS:
        return renamed  # parameters, summary … of the whole path
    if "operationId" in renamed:
        renamed["operationId"] = _name(service, renamed["operationId"])
    renamed.setdefault("tags", [service])
    renamed.pop("security", None)
    said = renamed.get("responses", {}).items()
    honest = {status: response for status, response in said if "HTTPValidationError" not in str(response)}
    renamed["responses"] = {"default": refusal, **honest}
    return renamed


def _renamed(service: str, value: Any) -> Any:
    """A copy in which every reference to a component names it as it is named in the merged document."""
    if isinstance(value, Mapping):
        discriminates = "propertyName" in value
        return {key: _member(service, key, member, mapping=discriminates) for key, member in value.items()}
    return [_renamed(service, item) for item in value] if isinstance(value, list) else value


def _member(service: str, key: str, member: Any, *, mapping: bool) -> Any:
    if key == "$ref" and isinstance(member, str):
        return _pointer(service, member)
    if key == "mapping" and mapping and isinstance(member, Mapping):
        # Of a discriminator: the only other place where a component is named.
        return {name: _pointer(service, str(target)) for name, target in member.items()}
    return _renamed(service, member)


def _pointer(service: str, target: str) -> str:
    if not target.startswith(_COMPONENTS):
        return target
    kind, _, name = target.removeprefix(_COMPONENTS).partition("/")
    return f"{_COMPONENTS}{kind}/{_name(service, name)}"


def _name(service: str, name: str) -> str:
    return f"{service}_{name}"
