"""Which copy of a service a request goes to: the one with the least to do, and none that has just failed or leaves."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from urllib.parse import urlsplit

FAILURES = 3
"""In a row, until an endpoint is left alone for a while."""
SHORTEST = 0.25
LONGEST = 1.0
"""Seconds that it is left alone, doubling with every further failure."""
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Place:
    """An endpoint's URL in parts."""

    scheme: str
    host: str
    port: int
    prefix: str
    """Before every path."""
    authority: str
    """What `Host` says."""


@dataclass(eq=False)
class Endpoint:
    """One address of a service, as this process sees it."""

    url: str
    """With the address in it."""
    host: str | None = None
    """What `Host` is to say, where a name led to the address."""
    name: str | None = None
    """What the certificate is to say, where there is one and a name led to the address."""
    in_flight: int = 0
    failures: int = 0
    """Since it last answered."""
    ejected_until: float = 0.0
    avoided_until: float = 0.0
    ready: bool = False
    """What it last said of itself."""

    @cached_property
    def place(self) -> Place:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        authority = self.host or parts.netloc.removesuffix(f":{PORTS[parts.scheme]}")
        return Place(parts.scheme, host, port, parts.path, authority)

    def is_open(self, now: float) -> bool:
        """Whether requests may go there. After a pause one may try; the others follow when it is answered."""
        return self.failures < FAILURES or now >= self.ejected_until

    def chosen(self, now: float) -> None:
        """A request goes there to try whether it is back: no other follows for a while."""
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

    def says(self, *, ready: bool) -> bool:
        """Note how it is. Whether that is news: one that is back has failed nobody yet."""
        changed, self.ready = self.ready != ready, ready
        if changed and ready:
            self.failures = 0
        return changed


@dataclass(frozen=True)
class Origin:
    """Where a service is, as the settings say it: by an address, or by a name that stands for one or several."""

    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Raises ValueError for what is no URL of a host."""
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise ValueError("must be http://host or https://host")
        return cls(parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme], parts.path.rstrip("/"))

    @property
    def is_address(self) -> bool:
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    def at(self, address: str) -> Endpoint:
        bracketed = f"[{address}]" if ":" in address else address
        url = f"{self.scheme}://{bracketed}:{self.port}{self.prefix}"
        if self.is_address:
            return Endpoint(url)
        host = self.host if self.port == PORTS[self.scheme] else f"{self.host}:{self.port}"
        return Endpoint(url, host, self.host if self.scheme == "https" else None)


class Pool:
    """The endpoints of one service."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.origins = list(dict.fromkeys(map(Origin.of, urls)))
        self.endpoints: list[Endpoint] = []
        self._seen: dict[tuple[Origin, str], Endpoint] = {}
        self._turn = 0
        for origin in self.origins:
            if origin.is_address:
                self.know(origin, [origin.host])

    def know(self, origin: Origin, addresses: Sequence[str]) -> bool:
        """An origin is at these addresses now, and at no others. Whether that is news.

        An endpoint that stays keeps what is known of it. One that is gone gets no request any more; what it is doing
        it ends, and should it come back meanwhile, that still counts.
        """
        before = self.endpoints
        asked = {(origin, address): self._seen.get((origin, address)) or origin.at(address) for address in addresses}
        others = {key: it for key, it in self._seen.items() if key[0] != origin or key in asked or it.in_flight}
        current = [it for key, it in others.items() if key[0] != origin and it in before]
        self._seen = others | asked
        self.endpoints = [*current, *asked.values()]
        return set(before) != set(self.endpoints)

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
        return any(it.is_open(now) and now >= it.avoided_until and (it.ready or not endpoint.ready) for it in others)

    def pick(self, now: float, avoid: Collection[str] = ()) -> Endpoint | None:
        """The open endpoint with the fewest requests in flight, in turn among equals; None when all are closed.

        One that is not ready is picked only when none is, so that what a service says of that is heard; one that is
        overloaded only when all others are.
        """
        equals: list[Endpoint] = []
        least = (True, True, 0)
        for it in self.endpoints:
            if not it.is_open(now) or (avoid and it.url in avoid):
                continue
            worth = (not it.ready, now < it.avoided_until, it.in_flight)
            if not equals or worth < least:
                equals, least = [it], worth
            elif worth == least:
                equals.append(it)
        if not equals:
            return None
        self._turn += 1
        picked = equals[self._turn % len(equals)]
        if picked.failures >= FAILURES:
            picked.chosen(now)
        return picked
