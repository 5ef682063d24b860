"""A checkpoint is whole or absent (G22): killed at every call of the disk, a full disk at each, damage afterwards."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `dying_disk`

from dying_disk import DyingDisk, save, state_of

from trainyard.runtime.checkpoints import Disk, Moment, Saved, Shelf
from trainyard.runtime.mistakes import DamagedFile

PROGRAM = Path(__file__).parent / "dying_disk.py"
CALLS = 10  # of the disk, of one checkpoint after another


def killed(folder: Path, step: int, call: int, how: str = "killed") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", str(PROGRAM), str(folder), str(step), str(call), how],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1] / "src")},
    )


def whole(folder: Path) -> tuple[int, Any]:
    """Of the newest that is."""
    shelf = Shelf(folder)
    saved, _ = shelf.newest()
    assert saved is not None
    return saved.moment.step, shelf.read(saved, 0)["state"]


def two_ranks(folder: Path, step: int) -> Saved:
    shelf = Shelf(folder)
    staged = shelf.staged(step, "x")
    parts = [shelf.write(staged, rank, {"local": rank, "state": step}) for rank in range(2)]
    return shelf.commit(staged, Moment(step, 1, 8), parts)


def test_there_are_as_many_calls_as_are_tried_below(tmp_path: Path) -> None:
    save(tmp_path, 1, Disk())
    disk = DyingDisk(0, "full")
    save(tmp_path, 2, disk)
    assert disk.calls == CALLS


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_killed_at_any_call_the_newest_is_the_old_one_or_the_new_one_and_whole(tmp_path: Path, call: int) -> None:
    save(tmp_path, 1, Disk())
    assert killed(tmp_path, 2, call).returncode == -9
    step, state = whole(tmp_path)
    assert state == state_of(step)
    assert step == (2 if call >= CALLS - 1 else 1)  # the last calls: its name is forced to the disk, the old one goes


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_on_a_full_disk_the_old_one_stays_and_nothing_is_left_of_the_new(tmp_path: Path, call: int) -> None:
    save(tmp_path, 1, Disk())
    disk = DyingDisk(call, "full")
    if call < CALLS:
        with pytest.raises(OSError, match="A checkpoint cannot be written: No space left"):
            save(tmp_path, 2, disk)
    else:
        save(tmp_path, 2, disk)  # it is there: that the old one cannot go is no failure
    step, state = whole(tmp_path)
    assert state == state_of(step)
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_try_has_left_is_swept(tmp_path: Path) -> None:
    save(tmp_path, 1, Disk())
    killed(tmp_path, 2, 3)
    assert len(list(tmp_path.glob(".*"))) == 1
    Shelf(tmp_path).sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["000000000001"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a byte flipped": lambda it: flip(it / "rank-0000.safetensors"),
    "cut off": lambda it: (it / "rank-0001.safetensors").write_bytes((it / "rank-0001.safetensors").read_bytes()[:-1]),
    "a rank missing": lambda it: (it / "rank-0001.safetensors").unlink(),
    "no manifest": lambda it: (it / "manifest.json").unlink(),
    "an empty manifest": lambda it: (it / "manifest.json").write_bytes(b""),
    "no JSON": lambda it: (it / "manifest.json").write_text("{" * 100_000),
    "a list": lambda it: (it / "manifest.json").write_text("[]"),
    "another version": lambda it: rewrite(it / "manifest.json", format=2),
    "another step": lambda it: rewrite(it / "manifest.json", step=3),
    "too few ranks": lambda it: rewrite(it / "manifest.json", world_size=3),
    "no ranks": lambda it: rewrite(it / "manifest.json", world_size=0, files=[]),
    "a file elsewhere": lambda it: rewrite(
        it / "manifest.json", files=[{"path": "../x", "size": 1, "sha256": ""}], world_size=1
    ),
    "a manifest without end": lambda it: os.truncate(it / "manifest.json", 65 << 20),
    "a folder in its place": lambda it: put_folder(it / "rank-0000.safetensors"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_passed_over_and_said(tmp_path: Path, damage: str) -> None:
    two_ranks(tmp_path, 1)
    two_ranks(tmp_path, 2)
    DAMAGE[damage](tmp_path / "000000000002")
    saved, complaints = Shelf(tmp_path).newest()
    assert saved is not None
    assert saved.moment == Moment(1, 1, 8)
    assert [it.startswith("Checkpoint 000000000002 is passed over: ") for it in complaints] == [True]


def test_a_step_that_is_saved_again_takes_the_place_of_what_was_damaged(tmp_path: Path) -> None:
    two_ranks(tmp_path, 2)
    flip(tmp_path / "000000000002" / "rank-0000.safetensors")
    two_ranks(tmp_path, 2)
    saved, complaints = Shelf(tmp_path).newest()
    assert saved is not None
    assert (saved.moment.step, complaints) == (2, [])
    assert [path.name for path in tmp_path.iterdir()] == ["000000000002"]


def test_what_changed_since_it_was_found_is_not_read(tmp_path: Path) -> None:
    saved = two_ranks(tmp_path, 1)
    flip(saved.folder / "rank-0001.safetensors")
    with pytest.raises(DamagedFile, match="other bytes"):
        Shelf(tmp_path).read(saved, 1)


def test_of_those_before_it_the_newest_are_kept_and_none_after_it(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 9):
        two_ranks(tmp_path, step)
    shelf = Shelf(tmp_path)
    shelf.prune(shelf.look(tmp_path / "000000000004"), 3)
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["2", "3", "4"]
    flip(tmp_path / "000000000004" / "rank-0000.safetensors")
    shelf.spare()
    assert [path.name[-1] for path in tmp_path.iterdir()] == ["3"]


def test_an_empty_shelf_has_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "nowhere")
    shelf.sweep()
    shelf.spare()
    assert shelf.newest() == (None, [])


@pytest.mark.skipif(shutil.which("strace") is None, reason="NO STRACE: the order of calls is not looked at")
def test_files_are_forced_to_the_disk_then_named_then_the_name_is_forced(tmp_path: Path) -> None:
    command = [sys.executable, "-S", str(PROGRAM), str(tmp_path / "shelf"), "1", "0", "full"]
    traced = ["strace", "-y", "-o", str(tmp_path / "trace"), "-e", "trace=fsync,rename", *command]
    subprocess.run(traced, check=True, env={"PYTHONPATH": str(Path(__file__).parents[1] / "src")}, capture_output=True)
    calls = re.findall(r"^(fsync|rename)\(.*?/shelf/?([^>\"]*)", (tmp_path / "trace").read_text(), re.MULTILINE)
    staged = calls[0][1].partition("/")[0]
    assert calls == [
        ("fsync", f"{staged}/rank-0000.safetensors"),
        ("fsync", f"{staged}/manifest.json"),
        ("fsync", staged),
        ("rename", staged),
        ("fsync", ""),
    ]
