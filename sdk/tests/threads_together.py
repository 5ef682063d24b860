"""Processes that train together, played by threads."""

import threading
from collections.abc import Callable, Sequence
from typing import Any


class Meeting:
    """What they all see."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.said: dict[int, Any] = {}
        self.barrier = threading.Barrier(world_size, timeout=30)
        self.left: list[int] = []
        self.agreements = 0


class Thread:
    """A group as one of them has it."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.rank = rank
        self.world_size = meeting.world_size
        self._meeting = meeting

    def told(self, value: Any) -> Any:
        return self.all_told(value)[0]

    def all_told(self, value: Any) -> list[Any]:
        self._meeting.said[self.rank] = value
        self._meeting.barrier.wait()
        found = [self._meeting.said[rank] for rank in range(self.world_size)]
        self._meeting.barrier.wait()
        return found

    def most(self, values: Sequence[int]) -> list[int]:
        if self.rank == 0:
            self._meeting.agreements += 1
        return [max(column) for column in zip(*self.all_told([int(value) for value in values]), strict=True)]

    def leave(self) -> None:
        self._meeting.left.append(self.rank)


def together(world_size: int, work: Callable[[Thread], Any]) -> tuple[list[Any], Meeting]:
    """What each answers, or has raised."""
    meeting = Meeting(world_size)
    found: list[Any] = [None] * world_size

    def run(rank: int) -> None:
        try:
            found[rank] = work(Thread(meeting, rank))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            found[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, meeting
