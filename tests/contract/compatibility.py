"""Whether a document still keeps what a released one promised to its clients.

What a client sends must still be taken: no path, verb, parameter or member of a body may go, become required or take
less. What a client reads must still be there: no member of an answer may go, cease to be sure or become another thing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
VERBS = ("get", "put", "post", "delete", "patch", "head")


def breaks(released: Json, current: Json) -> list[str]:
    """Every promise that is broken, with its place."""
    return sorted(set(_breaks(released, current)))


def _breaks(released: Json, current: Json) -> Iterator[str]:
    for path, verbs in released["paths"].items():
        for verb in (verb for verb in VERBS if verb in verbs):
            now = current["paths"].get(path, {}).get(verb)
            place = f"{verb.upper()} {path}"
            if now is None:
                yield f"{place}: is gone"
                continue
            yield from _parameters(verbs[verb], now, place)
            yield from _request(_Both(released, current, sent=True), verbs[verb], now, place)
            yield from _answers(_Both(released, current, sent=False), verbs[verb], now, place)


def _parameters(before: Json, now: Json, place: str) -> Iterator[str]:
    old = {(it["in"], it["name"]): it for it in before.get("parameters", ())}
    new = {(it["in"], it["name"]): it for it in now.get("parameters", ())}
    for where, name in old.keys() - new.keys():
        yield f"{place}: the {where} parameter {name} is gone"
    for key, parameter in new.items():
        if parameter.get("required") and not old.get(key, {}).get("required"):
            yield f"{place}: the {key[0]} parameter {key[1]} has become required"


def _request(both: "_Both", before: Json, now: Json, place: str) -> Iterator[str]:
    old, new = before.get("requestBody", {}), now.get("requestBody", {})
    if new.get("required") and not old.get("required"):
        yield f"{place}: a body has become required"
    for media, content in old.get("content", {}).items():
        if media not in new.get("content", {}):
            yield f"{place}: {media} is no longer taken"
        else:
            yield from both.compare(content.get("schema", {}), new["content"][media].get("schema", {}), f"{place} body")


def _answers(both: "_Both", before: Json, now: Json, place: str) -> Iterator[str]:
    for status, answer in before["responses"].items():
        if not status.startswith("2"):
            continue
        found = now["responses"].get(status)
        if found is None:
            yield f"{place}: {status} is gone"
            continue
        for media, content in answer.get("content", {}).items():
            if media not in found.get("content", {}):
                yield f"{place}: {status} is no longer {media}"
            else:
                new = found["content"][media].get("schema", {})
                yield from both.compare(content.get("schema", {}), new, f"{place} {status}")


class _Both:
    """Schemas of two documents, seen from who sends (`sent`) or from who reads."""

    def __init__(self, released: Json, current: Json, *, sent: bool) -> None:
        self._released = released
        self._current = current
        self._sent = sent
        self._seen: set[tuple[str, str]] = set()

    def compare(self, old: Json, new: Json, place: str) -> Iterator[str]:
        names = old.get("$ref", ""), new.get("$ref", "")
        if all(names):
            if names in self._seen:
                return
            self._seen.add(names)
        yield from self._kinds(old, new, place)
        old, new = _resolved(old, self._released), _resolved(new, self._current)
        yield from self._values(old, new, place)
        yield from self._members(old, new, place)
        if "items" in old:
            yield from self.compare(old["items"], new.get("items", {}), f"{place}[]")

    def _kinds(self, old: Json, new: Json, place: str) -> Iterator[str]:
        before, now = _kinds_of(old, self._released), _kinds_of(new, self._current)
        lost = before - now if self._sent else now - before
        if before and now and lost:
            what = "no longer takes" if self._sent else "may now be"
            yield f"{place}: {what} {', '.join(sorted(lost))}"

    def _values(self, old: Json, new: Json, place: str) -> Iterator[str]:
        values, others = set(map(str, old.get("enum", ()))), set(map(str, new.get("enum", ())))
        if self._sent and others and (values - others or not values):
            yield f"{place}: takes fewer values"

    def _members(self, old: Json, new: Json, place: str) -> Iterator[str]:
        before, now = old.get("properties", {}), new.get("properties", {})
        for name in before:
            if name not in now and not _is_free(new):
                yield f"{place}: the member {name} is gone"
            elif name in now:
                yield from self.compare(before[name], now[name], f"{place}.{name}")
        required, needed = set(old.get("required", ())), set(new.get("required", ()))
        changed = needed - required if self._sent else (required - needed) & now.keys()
        for name in changed if before or now else ():
            yield f"{place}: the member {name} " + ("has become required" if self._sent else "may be missing now")


def _resolved(schema: Json, document: Json) -> Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choices in (schema.get("anyOf"), schema.get("oneOf")):
        # A thing or nothing: the thing.
        real = [it for it in choices or () if it.get("type") != "null"]
        if len(real) == 1:
            return _resolved(real[0], document)
    return schema


def _kinds_of(schema: Json, document: Json) -> set[str]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return set().union(*(_kinds_of(it, document) for it in choices))
    kind = schema.get("type")
    return {kind} if isinstance(kind, str) else set(kind or ())


def _is_free(schema: Json) -> bool:
    """Whether it says nothing of its members."""
    return "properties" not in schema and schema.get("additionalProperties") is not False
