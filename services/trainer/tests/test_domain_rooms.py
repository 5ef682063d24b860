"""What a host takes of the queue."""

import pytest

from trainer.domain.rooms import Room, taken_into

TWO = Room(cpu_millis=2000, free_cpu_millis=2000)
BUSY = Room(cpu_millis=2000, free_cpu_millis=1000)
GPUS = Room(cpu_millis=4000, free_cpu_millis=4000, gpus=2, free_gpus=2)


@pytest.mark.parametrize(
    ("why", "room", "queued", "taken"),
    [
        ("what fits is taken in its order", TWO, [(500, 0), (500, 0), (1000, 0)], "abc"),
        ("and no more than that", TWO, [(1000, 0), (1000, 0), (250, 0)], "ab"),
        ("nobody goes past one that would fit if others ended", BUSY, [(2000, 0), (500, 0)], ""),
        ("what is larger than the host has it for itself", TWO, [(8000, 0), (500, 0)], "a"),
        ("and waits until nothing else runs there", BUSY, [(8000, 0), (500, 0)], ""),
        ("who needs GPUs is left to hosts that have them", TWO, [(1000, 1), (1000, 0)], "b"),
        ("GPUs are given once", GPUS, [(1000, 1), (1000, 1), (1000, 1)], "ab"),
        ("more GPUs than a host has are never there", GPUS, [(1000, 3), (1000, 2)], "b"),
        ("nothing is taken of nothing", TWO, [], ""),
    ],
)
def test_a_host_takes_what_it_has_room_for(why: str, room: Room, queued: list[tuple[int, int]], taken: str) -> None:
    named = [(name, *each) for name, each in zip("abcdef", queued, strict=False)]
    assert taken_into(room, named, 10) == list(taken), why


def test_a_host_takes_no_more_than_its_slots() -> None:
    assert taken_into(GPUS, [("a", 100, 0), ("b", 100, 0), ("c", 100, 0)], 2) == ["a", "b"]
