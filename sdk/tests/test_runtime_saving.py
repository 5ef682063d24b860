"""When a training saves, how its processes agree on it, and where it goes on."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `threads_together`

from threads_together import Thread, together

from trainyard.runtime.checkpoints import Disk, Moment, Saved, Shelf
from trainyard.runtime.groups import Alone, Group, Together, group_of
from trainyard.runtime.mistakes import CannotResume, CannotSave, NotInitialised
from trainyard.runtime.saving import Checkpoints, Rhythm


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def _signals() -> Iterator[None]:
    """As they were."""
    was = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, was)


def of(folder: Path, group: Group | None = None, disk: Disk | None = None, **known: Any) -> Checkpoints:
    mine = group or Alone()
    return Checkpoints(Shelf(folder, disk), lambda: mine, known.pop("heard", lambda saved: None), **known)


class Small(Disk):
    """A disk on which there is room for so many checkpoints of 100 kB."""

    def __init__(self, folder: Path, room: int, rank: int = 0) -> None:
        self._folder = folder
        self._room = room * 110_000

    def write(self, file: BinaryIO, content: bytes | memoryview) -> None:
        taken = sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())
        if taken + len(content) > self._room:
            raise OSError(errno.ENOSPC, "full")
        super().write(file, content)
        file.flush()


BIG = b"x" * 100_000


@pytest.mark.usefixtures("_signals")
def test_it_is_time_by_steps_and_by_seconds(tmp_path: Path) -> None:
    clock = Clock()
    by_steps = of(tmp_path, clock=clock, rhythm=Rhythm(steps=3, seconds=None))
    assert [by_steps.should_save for _ in range(7)] == [False, False, True, False, False, True, False]
    by_seconds = of(tmp_path, clock=clock, rhythm=Rhythm(seconds=10))
    asked = []
    for step in range(1, 8):
        clock.now += 4
        asked.append(by_seconds.should_save)
        if asked[-1]:
            by_seconds.save({}, step=step)
    assert asked == [False, False, False, True, False, False, True]


@pytest.mark.usefixtures("_signals")
def test_told_to_stop_it_saves_and_ends(tmp_path: Path) -> None:
    heard: list[Saved] = []
    checkpoints = of(tmp_path, heard=heard.append)
    assert not checkpoints.should_save
    os.kill(os.getpid(), signal.SIGTERM)
    assert checkpoints.should_save
    with pytest.raises(SystemExit) as ended:
        checkpoints.save({"w": 1}, step=5, epoch=2, position=7, local="mine")
    assert ended.value.code == 143
    found = of(tmp_path).restore()
    assert found is not None
    assert (found.state, found.local, found.moment, found.world_size) == ({"w": 1}, "mine", Moment(5, 2, 7), 1)
    assert [saved.folder.name for saved in heard] == ["000000000005"]


def test_a_program_that_never_asks_ends_as_programs_do(tmp_path: Path) -> None:
    of(tmp_path).save({}, step=1)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    heard: list[Saved] = []
    checkpoints = of(tmp_path, heard=heard.append)
    for _ in range(3):
        checkpoints.save({}, step=4)
    again = of(tmp_path, heard=heard.append)
    again.restore()
    again.save({}, step=4)
    assert len(heard) == 1


def test_each_rank_has_its_own_and_all_have_the_state_of_the_first(tmp_path: Path) -> None:
    def work(group: Thread) -> Any:
        of(tmp_path, group).save({"w": group.rank}, step=3, local={"random": group.rank})
        found = of(tmp_path, group).restore()
        return found and (found.state, found.local)

    found, _ = together(3, work)
    assert found == [({"w": 0}, {"random": rank}) for rank in range(3)]
    files = sorted(path.name for path in (tmp_path / "000000000003").iterdir())
    assert files == ["manifest.json", *(f"rank-000{rank}.safetensors" for rank in range(3))]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_another_number_of_processes_has_the_state_and_nothing_of_ranks(tmp_path: Path, world_size: int) -> None:
    together(3, lambda group: of(tmp_path, group).save({"w": 1}, step=3, local=group.rank))
    found, _ = together(world_size, lambda group: of(tmp_path, group).restore())
    assert [(it.state, it.local, it.world_size) for it in found] == [({"w": 1}, None, 3)] * world_size


def test_where_nothing_was_saved_all_begin(tmp_path: Path) -> None:
    assert together(2, lambda group: of(tmp_path, group).restore())[0] == [None, None]


def test_one_that_cannot_save_is_heard_by_all_and_nothing_is_left(tmp_path: Path) -> None:
    def work(group: Thread) -> None:
        of(tmp_path, group).save({}, step=3, local={1, 2} if group.rank == 1 else None)

    found, _ = together(3, work)
    assert [type(it) for it in found] == [CannotSave] * 3
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_of_one_is_heard_by_all(tmp_path: Path) -> None:
    def work(group: Thread) -> None:
        disk = Small(tmp_path, 0) if group.rank == 1 else None
        of(tmp_path, group, disk).save({}, step=3)

    found, _ = together(2, work)
    assert [(type(it), it.errno) for it in found] == [(OSError, errno.ENOSPC)] * 2
    assert list(tmp_path.iterdir()) == []


def test_on_a_full_disk_older_ones_make_room(tmp_path: Path) -> None:
    checkpoints = of(tmp_path, disk=Small(tmp_path, 3), rhythm=Rhythm(keep=3))
    for step in range(1, 6):
        checkpoints.save(BIG, step=step)
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["4", "5"]


def test_where_even_that_is_too_little_the_newest_stays(tmp_path: Path) -> None:
    checkpoints = of(tmp_path, disk=Small(tmp_path, 1))
    checkpoints.save(BIG, step=1)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(BIG, step=2)
    assert [path.name[-1] for path in tmp_path.iterdir()] == ["1"]


def test_one_that_does_not_see_the_folder_says_so_to_all(tmp_path: Path) -> None:
    together(2, lambda group: of(tmp_path / "0", group).save({}, step=3))
    found, _ = together(2, lambda group: of(tmp_path / str(group.rank), group).restore())
    assert [type(it) for it in found] == [CannotResume] * 2
    assert str(found[0]).startswith("Rank 1 cannot read the checkpoint of step 3")


def test_what_was_passed_over_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "000000000009").mkdir()
    together(2, lambda group: of(tmp_path, group).restore())
    assert capsys.readouterr().err.count("Checkpoint 000000000009 is passed over") == 1


def test_if_one_is_told_to_stop_all_save_at_the_same_step_and_leave(tmp_path: Path) -> None:
    """They hear of it at different steps, or not at all."""

    def work(group: Thread) -> Any:
        clock = Clock()
        checkpoints = of(tmp_path, group, clock=clock, rhythm=Rhythm(seconds=None))
        for step in range(1, 1000):
            clock.now += 0.05
            if step == 100 and group.rank == 1:
                checkpoints.hear(signal.SIGTERM, None)
            if checkpoints.should_save:
                checkpoints.save({}, step=step)
        return None

    found, meeting = together(3, work)
    assert [type(it) for it in found] == [SystemExit] * 3
    saved = Shelf(tmp_path).newest()[0]
    assert saved is not None
    assert 100 <= saved.moment.step <= 104  # a fifth of a second later at most
    assert sorted(meeting.left) == [0, 1, 2]


def test_agreeing_costs_little_however_short_the_steps(tmp_path: Path) -> None:
    def work(group: Thread) -> None:
        clock = Clock()
        checkpoints = of(tmp_path, group, clock=clock)
        for _ in range(2000):
            clock.now += 0.001 * (1 + group.rank)
            assert not checkpoints.should_save

    found, meeting = together(2, work)
    assert found == [None, None]
    assert 10 <= meeting.agreements <= 20  # in two seconds


def test_the_time_is_that_of_rank_0(tmp_path: Path) -> None:
    def work(group: Thread) -> list[int]:
        clock = Clock()
        checkpoints = of(tmp_path, group, clock=clock, rhythm=Rhythm(seconds=10))
        saved = []
        for step in range(1, 41):
            clock.now += 1 if group.rank == 0 else 7
            if checkpoints.should_save:
                checkpoints.save({}, step=step)
                saved.append(step)
        return saved

    (first, second), _ = together(2, work)
    assert first == second == [11, 21, 31]


def test_by_steps_several_need_no_agreement(tmp_path: Path) -> None:
    def work(group: Thread) -> list[bool]:
        checkpoints = of(tmp_path, group, clock=Clock(), rhythm=Rhythm(steps=2, seconds=None))
        return [checkpoints.should_save for _ in range(4)]

    assert together(2, work)[0] == [[False, True, False, True]] * 2


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"keep": 0}])
def test_what_is_no_rhythm_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="every step at most"):
        Rhythm(**wrong)


def test_the_group_is_what_torchrun_says() -> None:
    assert isinstance(group_of({}), Alone)
    assert isinstance(group_of({"WORLD_SIZE": "1", "RANK": "0"}), Alone)
    group = group_of({"WORLD_SIZE": "4", "RANK": "3"})
    assert isinstance(group, Together)
    assert (group.rank, group.world_size) == (3, 4)


def test_alone_there_is_nobody_to_ask() -> None:
    alone = Alone()
    alone.leave()
    assert (alone.told(1), alone.all_told(2), alone.most([3])) == (1, [2], [3])


def test_processes_that_have_not_met_are_told_how(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not in this environment")
    with pytest.raises(NotInitialised, match=r"run\.torch\.join"):
        of(tmp_path, Together(0, 2)).restore()
