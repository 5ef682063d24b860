"""Which copy of a service a request goes to: the one with the least to do, and none that has just failed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

FAILURES = 3
"""In a row, until an endpoint is left alone for a while."""
SHORTEST = 0.25
LONGEST = 1.0
"""Seconds that it is left alone, doubling with every further failure."""


@dataclass
class Endpoint:
    """One address of a service, as this process sees it."""

    url: str
    in_flight: int = 0
    failures: int = 0
    """Since it last answered."""
    ejected_until: float = 0.0
    avoided_until: float = 0.0

    def is_open(self, now: float) -> bool:
        """Whether requests may go there. After a pause one may try; the others follow when it is answered."""
        return self.failures < FAILURES or now >= self.ejected_until

    def chosen(self, now: float) -> None:
        """A request goes there. As long as it is a trial, no other follows for a while."""
        if self.failures >= FAILURES:
            self.ejected_until = now + LONGEST

    def overloaded(self, now: float) -> None:
        """It answers, and says that it cannot. Who is so fast with that has few requests in flight, and must not
        draw all others for it."""
        self.avoided_until = now + LONGEST

    def answered(self) -> None:
        self.failures = 0

    def failed(self, now: float) -> None:
        self.failures += 1
        if self.failures >= FAILURES:
            pause = SHORTEST * 2.0 ** min(self.failures - FAILURES, 10)
            self.ejected_until = now + min(LONGEST, pause)


class Pool:
    """The endpoints of one service."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.endpoints = [Endpoint(url.rstrip("/")) for url in urls]
        self._turn = 0

    def refused(self, endpoint: Endpoint, now: float) -> None:
        """Nobody listens at `endpoint`.

        That costs nothing to find out, so that the only one is asked every time: it is back when it is back. Where
        there are others, they are asked first.
        """
        if len(self.endpoints) > 1:
            endpoint.failed(now)

    def has_other(self, endpoint: Endpoint, now: float) -> bool:
        """Whether another copy may do what this one cannot just now."""
        others = (it for it in self.endpoints if it is not endpoint)
        return any(it.is_open(now) and now >= it.avoided_until for it in others)

    def pick(self, now: float, avoid: Collection[str] = ()) -> Endpoint | None:
        """The open endpoint with the fewest requests in flight, in turn among equals; None when all are closed.

        One that is overloaded is picked only when all others are, or are closed.
        """
        open_ = [it for it in self.endpoints if it.is_open(now) and it.url not in avoid]
        if not open_:
            return None
        willing = [it for it in open_ if now >= it.avoided_until] or open_
        least = min(it.in_flight for it in willing)
        equals = [it for it in willing if it.in_flight == least]
        self._turn += 1
        picked = equals[self._turn % len(equals)]
        picked.chosen(now)
        return picked
