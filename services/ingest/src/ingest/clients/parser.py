"""The parser as a limited child process: its memory, time and output end before the service's do."""

import os
import sys
from datetime import timedelta

from pydantic import ValidationError

from ingest.domain.reports import Report, Task
from ingest.domain.versions import Ended
from kit import children

OUTPUT = 4 << 20
SAID = 500
"""Bytes of its last words that the log has room for."""
# One arena and one thread keep the address space small and the shards the same everywhere. Nothing else is handed
# down: no database, no keys.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "PATH": os.defpath}


class ChildParser:
    """Runs `python -m ingest.parser`."""

    def __init__(self, *, memory: int, deadline: timedelta) -> None:
        self._memory = memory
        self._deadline = deadline

    async def run(self, task: Task) -> Ended:
        finished = await children.run(
            # -P: the folder of strangers' bytes is no place to import from.
            [sys.executable, "-P", "-m", "ingest.parser"],
            stdin=task.model_dump_json().encode(),
            memory=self._memory,
            deadline=self._deadline,
            output=OUTPUT,
            env=ENVIRONMENT,
            cwd=task.out,
        )
        said = finished.err[-SAID:].decode(errors="replace").strip()
        return Ended(code=finished.code, reason=finished.reason, report=_report(finished.out), said=said)


def _report(out: bytes) -> Report | None:
    try:
        return Report.model_validate_json(out)
    except ValidationError:
        return None
