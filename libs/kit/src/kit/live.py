"""Hints between the processes of a service that a topic has something new: by Redis, where there is one.

A hint may be lost, come late, or be about nothing. Whoever follows a topic looks at the database as often as without
Redis; a hint makes the next look come at once. Nobody who tells waits for anybody.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator

from redis.asyncio import Redis

from kit.reconcile import first
from kit.redis_client import connect, key_of

log = logging.getLogger(__name__)
PAUSE = 1.0
"""Seconds until somebody who was away is asked again."""
MOST = 10_000
"""Topics that wait to be told; more are left to the polls."""
LISTEN = 1.0
"""Seconds that a listener waits at one time, before it looks whether it is to end."""


class Live:
    """Of one process. Its `run` goes on beside requests; without Redis, hints reach this process alone."""

    def __init__(self, service: str, redis_url: str | None) -> None:
        self._channel = key_of("live", service)
        self._redis: Redis | None = None if redis_url is None else connect(redis_url)
        self._followers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._untold: set[str] = set()
        self._news = asyncio.Event()

    async def tell(self, topic: str) -> None:
        """Say that `topic` has something new. After the commit: whoever hears it looks at once."""
        self._wake(topic)
        if self._redis is not None and len(self._untold) < MOST:
            self._untold.add(topic)
            self._news.set()

    @contextlib.contextmanager
    def follow(self, topic: str) -> Iterator[asyncio.Event]:
        """An event that is set by every hint, and at first: something may have come before anybody followed."""
        wake = asyncio.Event()
        wake.set()
        self._followers[topic].add(wake)
        try:
            yield wake
        finally:
            self._followers[topic].discard(wake)
            if not self._followers[topic]:
                del self._followers[topic]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        if self._redis is None:
            await stop.wait()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._telling(self._redis, stop))
                group.create_task(self._listening(self._redis, stop))
        finally:
            await self._redis.aclose()

    async def _telling(self, redis: Redis, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await first(stop, self._news, seconds=LISTEN)
            self._news.clear()
            told, self._untold = self._untold, set()
            if not told:
                continue
            try:
                async with redis.pipeline(transaction=False) as pipeline:
                    for topic in told:
                        pipeline.publish(self._channel, topic)
                    await pipeline.execute()
            except Exception as exc:  # noqa: BLE001 - redis-py raises anything at an answer that is none
                log.info("hints not told", extra={"error": type(exc).__name__})
                await first(stop, seconds=PAUSE)

    async def _listening(self, redis: Redis, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with redis.pubsub() as heard:
                    await heard.subscribe(self._channel)
                    for topic in list(self._followers):  # what was told while nobody listened
                        self._wake(topic)
                    while not stop.is_set():
                        message = await heard.get_message(ignore_subscribe_messages=True, timeout=LISTEN)
                        if message is not None:
                            self._wake(bytes(message["data"]).decode(errors="replace"))
            except Exception as exc:  # noqa: BLE001 - redis-py raises anything at an answer that is none
                log.info("hints not heard", extra={"error": type(exc).__name__})
                await first(stop, seconds=PAUSE)

    def _wake(self, topic: str) -> None:
        for each in self._followers.get(topic, ()):
            each.set()
