"""Server-sent events: read them, and go on after the last one when the connection breaks."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from trainyard.errors import Unavailable, Unreachable
from trainyard.wire import BRIEF, LONGEST_BACKOFF, Wire

END = "end"  # the last event of a stream whose resource is over
TRIES = 8  # in a row without an event


@dataclass(frozen=True)
class Event:
    """One event of a stream."""

    id: str | None
    kind: str
    data: Any


def events_of(lines: Iterable[str]) -> Iterator[Event]:
    """The events in the lines of a `text/event-stream`; half an event at the end is none."""
    event_id: str | None = None
    kind, data = "message", list[str]()
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "" if not line:
                if data:
                    yield Event(event_id, kind, _value_of("\n".join(data)))
                kind, data = "message", []
            case "id":
                event_id = value
            case "event":
                kind = value
            case "data":
                data.append(value)
            case _:
                continue  # a comment (the heartbeat), or a field that later protocols have


def follow(wire: Wire, path: str) -> Iterator[Event]:
    """Every event of `path`, across lost connections, until the server says that there will never be more."""
    last: str | None = None
    failures = 0
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        try:
            with wire.stream(path, headers=headers) as answer:
                for event in events_of(answer.iter_lines()):
                    if event.kind == END:
                        return
                    last, failures = event.id or last, 0
                    yield event
            reason: Exception = Unreachable(f"The stream of {path} ends before its end.")
        except (Unreachable, Unavailable) as error:
            reason = error
        failures += 1
        if failures == TRIES:
            raise reason
        wire.pause(min(BRIEF * 2**failures, LONGEST_BACKOFF))


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
