"""Expressions, judged by a child process: one that is hostile hangs, bloats or ends that child and nothing else."""

import asyncio
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from kit import children, errors
from pipelines.domain.expressions import Verdict

log = logging.getLogger(__name__)
PROGRAM = (sys.executable, "-I", "-m", "pipelines.cel")
MEMORY = 256 << 20
SECONDS = 10
"""Of processor time, which a child counts itself: a machine that is busy takes nothing from it."""
SLOWEST = 3
"""How many times as long a child may be there: what takes longer with less work is held up by others."""
OUTPUT = 4 << 20
AT_ONCE = 2
_REASONS = {
    "memory": "takes too much memory",
    "output": "says more than it may",
}
_ENDED_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class ChildExpressions:
    """Starts a child for each set of expressions. Few at one time: they cost processors, not waiting."""

    def __init__(
        self,
        *,
        memory: int = MEMORY,
        seconds: int = SECONDS,
        deadline: timedelta | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._program = (*program, str(seconds))
        self._memory = memory
        self._deadline = deadline or timedelta(seconds=SLOWEST * seconds)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._folder = Path(tempfile.gettempdir())

    async def compile(self, expressions: list[str]) -> list[str | None]:
        """For each: what is wrong with it, or None."""
        return [verdict.error or None for verdict in await self._judge(expressions, None)]

    async def evaluate(self, expressions: Sequence[str], data: Mapping[str, Any]) -> list[Verdict]:
        """For each: true, false, or an error. Nothing behind the first that ended the child is evaluated."""
        return await self._judge(expressions, data)

    async def _judge(self, expressions: Sequence[str], data: Mapping[str, Any] | None) -> list[Verdict]:
        task = orjson.dumps({"expressions": list(expressions), "data": data})
        async with self._turns:
            ended = await children.run(
                self._program,
                stdin=task,
                memory=self._memory,
                deadline=self._deadline,
                output=OUTPUT,
                env={"PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "1"},
                cwd=self._folder,
            )
        verdicts = [_verdict(line) for line in ended.out.split(b"\n")[:-1]]
        if len(verdicts) == len(expressions):
            return verdicts
        if _is_the_machines_doing(ended):
            said = ended.err[-500:].decode(errors="replace")
            log.warning("evaluator ended", extra={"code": ended.code, "why": ended.reason or said})
            raise errors.Unavailable("The expressions cannot be evaluated just now.")
        culprit = Verdict(None, _fault(ended))
        unknown = Verdict(None, "was not evaluated: one before it is at fault")
        return [*verdicts, culprit, *[unknown] * (len(expressions) - len(verdicts) - 1)]


def _is_the_machines_doing(ended: children.Finished) -> bool:
    """Whether the child ended for what no expression did: it did not start, was held up, or was ended by others."""
    if ended.reason is None:
        return ended.code >= 0 or -ended.code in _ENDED_FROM_OUTSIDE
    return ended.reason == "deadline"


def _fault(ended: children.Finished) -> str:
    if ended.reason is None and ended.code == -signal.SIGXCPU:
        return "takes too long"
    return _REASONS.get(ended.reason or "", "ends its evaluator")


def _verdict(line: bytes) -> Verdict:
    said = json.loads(line)
    return Verdict(said["value"], said["error"])
