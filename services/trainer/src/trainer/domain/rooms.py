"""What a host has room for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True)
class Room:
    """Of a host: in all, and free. Memory is looked after attempt by attempt, where it is used."""

    cpu_millis: int
    free_cpu_millis: int
    gpus: int = 0
    free_gpus: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs there."""
        return (self.free_cpu_millis, self.free_gpus) == (self.cpu_millis, self.gpus)

    def holds(self, cpu_millis: int, gpus: int) -> bool:
        """Whether there is room for that now. What is larger than the host gets all of its processors for itself."""
        return (gpus <= self.free_gpus and cpu_millis <= self.free_cpu_millis) or (self.is_empty and gpus <= self.gpus)

    def less(self, cpu_millis: int, gpus: int) -> "Room":
        """What is left of it."""
        return replace(self, free_cpu_millis=self.free_cpu_millis - cpu_millis, free_gpus=self.free_gpus - gpus)


def taken_into(room: Room, queued: Sequence[tuple[K, int, int]], limit: int) -> list[K]:
    """Which of those in the queue (a name, processors, GPUs) the host takes, in their order.

    Nobody goes past one that the host could hold if it were empty: it would never be. Who needs GPUs that the host does
    not have at all is for others.
    """
    chosen = list[K]()
    for name, cpu_millis, gpus in queued:
        if gpus > room.gpus:
            continue
        if len(chosen) == limit or not room.holds(cpu_millis, gpus):
            break
        chosen.append(name)
        room = room.less(cpu_millis, gpus)
    return chosen
