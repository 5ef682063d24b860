"""Answers that may be given again for a while: bounded in number and in time."""

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
Clock = Callable[[], float]
ENTRIES = 4096


class Remembered(Generic[K, V]):
    """A few thousand answers, each until its time; the oldest makes room."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[K, tuple[V, float]] = {}

    def get(self, key: K) -> V | None:
        value, until = self._entries.get(key, (None, 0.0))
        return value if self._clock() < until else None

    def put(self, key: K, value: V, *, until: float) -> None:
        self._entries.pop(key, None)
        if len(self._entries) >= ENTRIES:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = value, until
