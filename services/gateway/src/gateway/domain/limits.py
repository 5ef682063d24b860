"""How often, and how many at once: the generic cell rate algorithm, one number for each key."""

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from math import ceil

from kit import errors

ENTRIES = 10_000


class RateExceeded(errors.TooMany): ...


class TooManyAtOnce(errors.TooMany): ...


class Overloaded(errors.Unavailable): ...


@dataclass(frozen=True)
class Rate:
    per_second: float
    burst: int
    """Requests that may come at one moment after a pause."""

    @cached_property
    def policy(self) -> bytes:
        """What `RateLimit-Policy` says."""
        window = max(1, ceil(self.burst / self.per_second))
        return f'"key";q={self.burst};w={window}'.encode()


@dataclass(slots=True)
class Verdict:
    """What the bucket says to one request."""

    allowed: bool
    rate: Rate
    remaining: int
    wait: float
    """Seconds until the next request would be allowed; 0 when that is now."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit` and `RateLimit-Policy`, as the IETF's draft has them."""
        state = b'"key";r=%d;t=%d' % (self.remaining, ceil(self.wait))
        return [(b"ratelimit-policy", self.rate.policy), (b"ratelimit", state)]

    def check(self) -> None:
        """Raise if the request is one too many."""
        if not self.allowed:
            wait = timedelta(seconds=max(1, ceil(self.wait)))
            raise RateExceeded("This API key is used too often.", retry_after=wait)


@dataclass(frozen=True)
class Debit:
    """What a key has used here since it was last told to the other processes."""

    key: str
    used: int
    ahead: float
    """Seconds by which the bucket was ahead of time before that, as this process knows it."""


@dataclass
class Buckets:
    """One bucket for each key of this process; those that are full again make room first.

    Processes that share limits tell each other what they let in (`debits`), and learn what all of them did (`learn`).
    What is learnt makes a bucket stricter only, and never by more than two bursts: whoever keeps the common account may
    forget it, or say anything, and nobody is let in more often than one process would, or locked out.
    """

    rate: Rate
    shared: bool = False
    _arrivals: dict[str, float] = field(default_factory=dict)
    _used: dict[str, int] = field(default_factory=dict)

    @cached_property
    def step(self) -> float:
        return 1 / self.rate.per_second

    def is_news(self, key: str) -> bool:
        """Whether the others should hear of this key soon: it was idle, or has used a good part of its burst."""
        return self._used.get(key, 0) in (1, max(2, self.rate.burst // 20))

    def debits(self, now: float) -> list[Debit]:
        """All that was not told yet; it counts as told from here on."""
        used, self._used = self._used, {}
        return [
            Debit(key, count, max(0.0, self._arrivals.get(key, now) - now - count * self.step))
            for key, count in used.items()
        ]

    def learn(self, key: str, ahead: float, now: float) -> None:
        """All processes together have used so much of a key that its bucket is `ahead` seconds ahead of time."""
        most = 2 * self.rate.burst * self.step
        since = self._used.get(key, 0) * self.step
        if 0 < ahead < float("inf"):
            self._keep(key, max(self._arrivals.pop(key, now), now + min(ahead, most) + since), now)

    def take(self, key: str, now: float) -> Verdict:
        """Count one request of `key` at `now` (any clock that only goes forward)."""
        step = self.step
        arrival = max(self._arrivals.pop(key, now), now) + step
        # Where the theoretical arrival may be at most for the request to come within the burst.
        earliest = arrival - self.rate.burst * step
        if earliest > now + 1e-9:
            self._keep(key, arrival - step, now)
            return Verdict(False, self.rate, 0, earliest - now)
        self._keep(key, arrival, now)
        if self.shared and (key in self._used or len(self._used) < ENTRIES):
            self._used[key] = self._used.get(key, 0) + 1
        remaining = int((now - earliest) / step + 1e-6)
        return Verdict(True, self.rate, remaining, 0.0 if remaining else earliest + step - now)

    def _keep(self, key: str, arrival: float, now: float) -> None:
        if len(self._arrivals) >= ENTRIES:
            spent = [name for name, at in self._arrivals.items() if at <= now]
            for name in spent or [next(iter(self._arrivals))]:
                del self._arrivals[name]
        self._arrivals[key] = arrival


@dataclass
class Places:
    """How many requests are under way: of each key, and of all together."""

    of_each: int
    of_all: int
    _taken: dict[str, int] = field(default_factory=dict)
    _all: int = 0

    def take(self, key: str) -> None:
        """Take a place, to be given back. Raises if there is none."""
        if self._taken.get(key, 0) >= self.of_each:
            raise TooManyAtOnce(
                f"This API key has {self.of_each} requests under way.", retry_after=timedelta(seconds=1)
            )
        if self._all >= self.of_all:
            raise Overloaded("There are too many requests under way.", retry_after=timedelta(seconds=1))
        self._taken[key] = self._taken.get(key, 0) + 1
        self._all += 1

    def give_back(self, key: str) -> None:
        self._all -= 1
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]
