"""What one deployment may use of a process that answers, and whether its models stay in memory."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Limits:
    """None: as the process is set."""

    concurrency: int | None = None
    """Requests that each of its models works on at one time."""
    waiting: int | None = None
    """Requests that may wait for them."""
    memory_bytes: int | None = None
    """Of each of its models, loaded."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `to_json` made; what a later version of it adds is left alone."""
        return cls(*(value.get(name) for name in ("concurrency", "waiting", "memory_bytes")))

    def to_json(self) -> dict[str, int]:
        """As the row and the state file have it: what is set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


UNLIMITED = Limits()
