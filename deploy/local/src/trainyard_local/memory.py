"""How much memory processes take, shared pages counted by their share. Linux only; elsewhere unknown."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def used(pids: Iterable[int]) -> dict[int, int | None]:
    """Bytes (PSS) of each process together with everything that it started."""
    children = _children()
    return {pid: _of_family(pid, children) for pid in pids}


def used_alone(pid: int) -> int | None:
    """Bytes (PSS) of one process without those that it started."""
    return _of_one(pid)


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for entry in _PROC.glob("[0-9]*/stat"):
        try:
            # The name may hold spaces and brackets: what follows the last bracket is state and parent.
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        found[parent].append(int(entry.parent.name))
    return found


def _of_family(pid: int, children: dict[int, list[int]]) -> int | None:
    own = _of_one(pid)
    return None if own is None else own + sum(_of_family(child, children) or 0 for child in children.get(pid, []))


def _of_one(pid: int) -> int | None:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
