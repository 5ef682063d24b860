"""Server-sent events: read them, and go on after the last one when the connection breaks."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from trainyard.errors import Unavailable, Unreachable
from trainyard.wire import BRIEF, Wire

TRIES = 5


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


def follow(wire: Wire, path: str, is_done: Callable[[], bool]) -> Iterator[Event]:
    """Every event of `path`, across lost connections, until the stream ends and `is_done`.

    A stream that ends may have ended because its server went away: only the resource itself says that nothing more
    will come, and the end is asked for once more after it said so.
    """
    last: str | None = None
    failures, done = 0, False
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        came = 0
        try:
            with wire.stream(path, headers=headers) as answer:
                for event in events_of(answer.iter_lines()):
                    last = event.id or last
                    came, failures = came + 1, 0
                    yield event
        except (Unreachable, Unavailable):
            failures += 1
            if failures == TRIES:
                raise
            wire.pause(BRIEF * 2**failures)
            continue
        if done and not came:
            return
        done = is_done()
        if done and last is None:  # without ids, to ask again would bring the same events again
            return
        if not done:
            wire.pause(BRIEF)


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
