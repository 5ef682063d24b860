"""The spans of a program in a job. It has nobody to tell of them: what it says of its stages lies in its folder.

The program may be anybody's, so that its word counts for little: few lines, short names, and times within its life.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from kit.tracing import Span, id_in
from trainer.domain.attempts import STAGES_FILE

JOB = "trainyard-trainer-job"
"""Whose spans these are."""
LARGEST = 64 << 10
MOST = 100
_NAME = re.compile(r"[a-z][a-z0-9 _-]{0,49}")


def spans_of(process: str, cause: str, work: Path, *, began: int, ended: int, exit_code: int | None) -> list[Span]:
    """The process itself (its context is `process`, and `cause` the one that it continues), and its stages."""
    error = "" if exit_code == 0 else f"exit {exit_code}"
    whole = Span(name="job", context=process, parent=id_in(cause), began=began, ended=ended, error=error, service=JOB)
    whole.attributes = {} if exit_code is None else {"process.exit.code": exit_code}
    stages = [each for each in _stages(work) if began <= each[1] <= ended]
    ends = [at for _, at in stages[1:]] + [ended]
    return [
        whole,
        *(
            Span(
                name=name,
                context=_child(process, place),
                parent=id_in(process),
                began=at,
                ended=max(at, end),
                service=JOB,
            )
            for place, ((name, at), end) in enumerate(zip(stages, ends, strict=False))
        ),
    ]


def _child(process: str, place: int) -> str:
    """The same one whenever it is asked for: a runner that was started anew tells of the same spans again."""
    return f"{process[:36]}{hashlib.sha256(f'{process} {place}'.encode()).hexdigest()[:16]}{process[-3:]}"


def _stages(work: Path) -> Sequence[tuple[str, int]]:
    try:
        with (work / STAGES_FILE).open("rb") as file:
            lines = file.read(LARGEST).splitlines()[:MOST]
    except OSError:
        return []
    return [stage for line in lines if (stage := _stage(line)) is not None]


def _stage(line: bytes) -> tuple[str, int] | None:
    try:
        said = json.loads(line)
        name, at = said["stage"], said["at"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_one = isinstance(name, str) and isinstance(at, int) and _NAME.fullmatch(name)
    return (name, at) if is_one else None
