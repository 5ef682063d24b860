"""YAML as JSON: what a definition is written in, read strictly and in one pass, with the line of every place.

Scalars mean what they mean in YAML 1.2: `no` and `on` are words, `1:30` is no number, dates are text. Refused: aliases
(a few bytes of them unfold to gigabytes), tags, several documents, members that are given twice, keys that are no
scalars, numbers that JSON cannot say, more than 32 levels, and more than 150,000 values.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from kit import errors

DEPTH = 32
MOST = 150_000
"""Values of a document: fewer than its bytes, more than any pipeline of 10,000 steps has."""
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_A_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
LARGEST = 1 << 63
"""The first integer that JSON, CEL and databases do not all keep as it is."""
_LONGEST_NUMBER = 400


class MalformedYaml(errors.Malformed): ...


class Place(errors.Place, total=False):
    """A mistake in a document, with its line where there are lines."""

    line: int


@dataclass(frozen=True)
class Document:
    """What a document says, and where."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)
    """Of each JSON pointer, from 1. Of JSON, none."""

    def place(self, pointer: str, detail: str) -> Place:
        """A mistake at a place; that of a member that is not there is the place of what lacks it."""
        above = pointer
        while above and above not in self.lines:
            above = above.rpartition("/")[0]
        if not above:
            return {"pointer": pointer, "detail": detail}
        line = self.lines[above]
        return {"pointer": pointer, "detail": f"{detail} (line {line})", "line": line}


def pointer_of(*parts: object) -> str:
    """A JSON pointer such as `#/steps/train/with/dataset`."""
    return "/".join(["#", *(str(part)[:100].replace("~", "~0").replace("/", "~1") for part in parts)])


def read_yaml(content: bytes) -> Document:
    """
    Raises:
        MalformedYaml: it is not YAML, or not the kind that is taken here.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise MalformedYaml(f"The body is not UTF-8: byte {exc.start}.") from None
    reader = _Reader()
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            reader.take(event)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise _refused("#", f"is not YAML: {exc.problem}", line) from None
    except yaml.YAMLError:
        raise MalformedYaml("The body is not YAML: it holds characters that YAML does not know.") from None
    return Document(reader.root, reader.lines)


@dataclass
class _Open:
    """A mapping or sequence whose end has not come."""

    value: dict[str, Any] | list[Any]
    path: tuple[object, ...]
    key: str | None = None


class _Reader:
    """Builds the document from the parser's events: nothing recurses, so depth costs nothing before it is refused."""

    def __init__(self) -> None:
        self.root: Any = None
        self.lines: dict[str, int] = {}
        self._open: list[_Open] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        match event:
            case yaml.AliasEvent():
                raise _refused(self._here(), "is an alias (*name): write out what it stands for", line)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise _refused("#", "begins a second document: send one", line)
            case yaml.ScalarEvent():
                self._scalar(event, line)
            case yaml.MappingStartEvent():
                self._begin({}, event, line)
            case yaml.SequenceStartEvent():
                self._begin([], event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        self._refuse_tag(event.tag, line)
        top = self._open[-1] if self._open else None
        if "\0" in event.value or any("\ud800" <= letter <= "\udfff" for letter in event.value):
            raise _refused(self._here(), "holds a NUL or half of a surrogate pair", line)
        if top is not None and isinstance(top.value, dict) and top.key is None:
            if event.value in top.value:
                raise _refused(pointer_of(*top.path, event.value), "is given twice", line)
            top.key = event.value
            return
        plain = event.implicit[0]
        self._put(self._value_of(event.value, line) if plain else event.value, line)

    def _value_of(self, text: str, line: int) -> Any:
        if len(text) > _LONGEST_NUMBER:
            return text
        if text in _NULL:
            return None
        if text in _TRUTH:
            return _TRUTH[text]
        if _INTEGER.fullmatch(text) and -LARGEST <= int(text) < LARGEST:
            return int(text)
        if _NOT_A_NUMBER.fullmatch(text) or (_NUMBER.fullmatch(text) and not math.isfinite(float(text))):
            raise _refused(self._here(), "is no number that JSON can say", line)
        return float(text) if _NUMBER.fullmatch(text) else text

    def _begin(self, value: dict[str, Any] | list[Any], event: yaml.CollectionStartEvent, line: int) -> None:
        self._refuse_tag(event.tag, line)
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            raise _refused(pointer_of(*top.path), "has a key that is not a word", line)
        if len(self._open) == DEPTH:
            raise _refused(self._here(), f"is nested deeper than {DEPTH} levels", line)
        path = self._put(value, line)
        self._open.append(_Open(value, path))

    def _put(self, value: Any, line: int) -> tuple[object, ...]:
        """Put a value where it belongs. Says where that is."""
        path = self._path()
        if len(self.lines) == MOST:
            raise _refused("#", f"has more than {MOST} values", line)
        self.lines[pointer_of(*path)] = line
        if not self._open:
            self.root = value
            return path
        top = self._open[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        else:
            assert top.key is not None
            top.value[top.key], top.key = value, None
        return path

    def _path(self) -> tuple[object, ...]:
        if not self._open:
            return ()
        top = self._open[-1]
        last = len(top.value) if isinstance(top.value, list) else top.key
        return (*top.path, last) if last is not None else top.path

    def _here(self) -> str:
        return pointer_of(*self._path())

    def _refuse_tag(self, tag: str | None, line: int) -> None:
        if tag is not None:
            raise _refused(self._here(), f"has a tag ({tag[:100]}): tags are not taken", line)


def _refused(pointer: str, detail: str, line: int) -> MalformedYaml:
    place: Place = {"pointer": pointer, "detail": f"{detail} (line {line})", "line": line}
    return MalformedYaml(f"The YAML cannot be read: line {line}: {pointer} {detail}.", errors=[place])


def texts_of(value: Any, *path: object) -> Iterator[tuple[tuple[object, ...], str]]:
    """Every string in a document, with the path to it. The document is not deep."""
    match value:
        case str():
            yield path, value
        case dict():
            for name, member in value.items():
                yield from texts_of(member, *path, name)
        case list():
            for index, item in enumerate(value):
                yield from texts_of(item, *path, index)


def too_large_in(value: Any) -> Iterator[tuple[object, ...]]:
    """The path to every integer beyond 64 bits. Of any depth: nothing here recurses."""
    left: list[tuple[tuple[object, ...], Any]] = [((), value)]
    while left:
        path, here = left.pop()
        match here:
            case int() if not -LARGEST <= here < LARGEST:
                yield path
            case Mapping():
                left += (((*path, name), member) for name, member in here.items())
            case list():
                left += (((*path, at), item) for at, item in enumerate(here))
