"""What all gateways let in, added up in Redis: told in arrears, so that no request ever waits for it."""

import asyncio
import logging
import time
from collections.abc import Sequence
from math import ceil

from prometheus_client import Gauge
from redis.asyncio import Redis

from gateway.domain.limits import Buckets, Debit
from kit.reconcile import first
from kit.redis_client import key_of

log = logging.getLogger(__name__)
EVERY = 0.1
PAUSE = 1.0
"""Seconds until somebody who was away is asked again."""
BATCH = 200
SHARED = Gauge("trainyard_gateway_limits_shared", "Whether limits are shared with the other gateways just now.")

# The bucket is one number: until when it is spent, by Redis's own clock. It is at least what the process knows, so that
# an emptied Redis learns it again; and two bursts at most, so that nobody is locked out.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local spent = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
spent = math.max(spent, now + tonumber(ARGV[1])) + tonumber(ARGV[2])
spent = math.min(spent, now + tonumber(ARGV[3]))
redis.call('SET', KEYS[1], string.format('%.0f', spent), 'PX', ARGV[4])
return math.floor(spent - now)
"""


class SharedLimits:
    """Keeps the buckets of this process in step with those of the others, as long as Redis answers."""

    def __init__(self, buckets: Buckets, redis: Redis) -> None:
        self._buckets = buckets
        self._redis = redis
        self._script = redis.register_script(SCRIPT)
        self.news = asyncio.Event()

    async def keep_current(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                self.news.clear()
                told = await self._told()
                await (first(stop, self.news, seconds=EVERY) if told else first(stop, seconds=PAUSE))
            await self._told()
        finally:
            await self._redis.aclose()

    async def _told(self) -> bool:
        """Tell what was used. Whether it was heard; what was not counts here alone."""
        debits = self._buckets.debits(time.monotonic())
        try:
            for start in range(0, len(debits), BATCH):
                await self._tell(debits[start : start + BATCH])
        except Exception as exc:  # noqa: BLE001 - it is away, or no Redis: requests go on whatever it says
            log.warning("limits not shared just now", extra={"error": type(exc).__name__})
            SHARED.set(0)
            return False
        SHARED.set(1)
        return True

    async def _tell(self, debits: Sequence[Debit]) -> None:
        step, burst = self._buckets.step, self._buckets.rate.burst
        most = 2 * burst * step
        pipeline = self._redis.pipeline(transaction=False)
        for debit in debits:
            microseconds = [int(seconds * 1e6) for seconds in (debit.ahead, debit.used * step, most)]
            arguments = [*microseconds, ceil(most * 1000) + 1000]
            await self._script(keys=[key_of("rate", debit.key)], args=arguments, client=pipeline)
        async with asyncio.timeout(PAUSE):
            answers = await pipeline.execute()
        now = time.monotonic()
        for debit, answer in zip(debits, answers, strict=True):
            self._buckets.learn(debit.key, int(answer) / 1e6, now)
