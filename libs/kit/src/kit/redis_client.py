"""Redis for what may be lost: limits, and nothing that must be true. Away, slow or emptied, it changes how fast things
are and never what they are. Nobody asks it while a request waits.
"""

from datetime import timedelta

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

PATIENCE = timedelta(milliseconds=250)


def connect(url: str) -> Redis:
    """A client that connects when it is first used, waits little, and tries once."""
    patience = PATIENCE.total_seconds()
    return Redis.from_url(
        url,
        socket_timeout=patience,
        socket_connect_timeout=patience,
        retry=Retry(NoBackoff(), 0),
        max_connections=4,
    )


def key_of(*parts: str) -> str:
    """A key of parts, each with its length, so that no two lists of parts are one key."""
    return "trainyard:" + ":".join(f"{len(part)}:{part}" for part in parts)
