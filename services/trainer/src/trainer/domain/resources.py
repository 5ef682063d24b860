"""How much of a machine a job asks for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kit import errors

MEMORY = 4 << 30
"""Bytes that a job counts for which does not say what it needs: what a runner lets an attempt have, unless told."""
MAX_MILLIS, MAX_BYTES, MAX_GPUS = 1_000_000, 1 << 50, 10_000
CORE = 1000
_QUANTITY = re.compile(r"([0-9]{1,15})(|[KMGT]i?)")
_UNITS = {"": 1, **{f"{unit}i": 1 << (10 * at) for at, unit in enumerate("KMGT", 1)}}
_UNITS |= {unit: 1000**at for at, unit in enumerate("KMGT", 1)}


class QuantityInvalid(errors.Invalid): ...


@dataclass(frozen=True)
class Amount:
    """So much of a machine."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    gpus: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(*(mine + theirs for mine, theirs in zip(_of(self), _of(other), strict=True)))

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(*(mine - theirs for mine, theirs in zip(_of(self), _of(other), strict=True)))

    def __mul__(self, times: int) -> "Amount":
        return Amount(*(mine * times for mine in _of(self)))

    def covers(self, other: "Amount") -> bool:
        """Whether there is room in it for the other."""
        return all(mine >= theirs for mine, theirs in zip(_of(self), _of(other), strict=True))

    def to_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {"cpu": cores(self.cpu_millis), "memory": self.memory_bytes, "gpu": self.gpus}


def _of(amount: Amount) -> tuple[int, int, int]:
    return amount.cpu_millis, amount.memory_bytes, amount.gpus


@dataclass(frozen=True)
class Resources:
    """What one node of a job needs."""

    cpu_millis: int = CORE
    memory_bytes: int | None = None
    """None: what a runner lets an attempt have."""
    gpus: int = 0

    @property
    def amount(self) -> Amount:
        """As it counts."""
        return Amount(self.cpu_millis, MEMORY if self.memory_bytes is None else self.memory_bytes, self.gpus)

    def to_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {"cpu": cores(self.cpu_millis), "memory": self.memory_bytes, "gpu": self.gpus}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From a row or a grant; what is missing is ordinary."""
        millis = round(value.get("cpu", 1) * CORE)
        return cls(cpu_millis=millis, memory_bytes=value.get("memory"), gpus=value.get("gpu", 0))


ORDINARY = Resources()


def bytes_of(text: str, *, pointer: str) -> int:
    """`512Mi`, `2Gi`, `1500M` or a number of bytes.

    Raises:
        QuantityInvalid: it is written in another way, or beyond all reason.
    """
    found = _QUANTITY.fullmatch(text)
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 1 <= size <= MAX_BYTES:
        detail = "must be bytes, such as 512Mi or 2Gi"
        raise QuantityInvalid("This is no amount of memory.", errors=[{"pointer": pointer, "detail": detail}])
    return size


def cores(millis: int) -> float:
    """As people write them."""
    return millis // CORE if millis % CORE == 0 else millis / CORE
