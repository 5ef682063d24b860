"""One attempt on this host, from its grant to the word of how it ended."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from kit import errors, tracing
from kit.reconcile import first
from trainer.clients.ingest import IngestClient
from trainer.clients.trainer import TrainerClient
from trainer.domain.attempts import RESULT_FILE, AttemptResult, Outcome, OutputFile
from trainer.domain.grants import Grant
from trainer.domain.leased import MEMORY_HINT
from trainer.runner import inputs, traces
from trainer.runner.host import Home, Record
from trainer.runner.processes import Processes

log = logging.getLogger(__name__)
T = TypeVar("T")
LOOK = 0.05
"""Seconds between two looks at the processes: what they take in that time is what they may have too much."""
SOONEST, LATEST = 0.1, 2.0
FAREWELL = timedelta(seconds=3)
"""How long a runner that ends itself tries to say what became of its attempts. Its successor says it otherwise."""
FIRST_WORD = 2.0
"""Seconds that the program's start waits for what is said before it: so the job's log is in order."""
PASSING = (errors.Unavailable, errors.TooMany, errors.Unauthenticated)
LOST = (errors.NotFound, errors.Conflict)


@dataclass(frozen=True)
class Rules:
    """What an attempt may take."""

    memory: int
    beat: timedelta
    grace: timedelta
    trainer_url: str


class GaveUp(Exception):
    """It was not said in time. The next runner goes on from here."""


class Attending:
    """Looks after one attempt."""

    def __init__(self, home: Home, trainer: TrainerClient, ingest: IngestClient, rules: Rules, record: Record) -> None:
        self._home = home
        self._trainer = trainer
        self._ingest = ingest
        self._rules = rules
        self._record = record
        self._work = home.work_of(record.grant)
        self._processes = Processes(self._work, home.output_of(record.grant), home.lock)
        self._unsaid: list[dict[str, Any]] = []
        self._speaking = asyncio.Lock()
        self._stop = asyncio.Event()
        self._leaving = False
        self._handing_over = False
        self._late = asyncio.Event()

    @property
    def grant(self) -> Grant:
        """What was granted."""
        return self._record.grant

    def leave(self) -> None:
        """End the program, say so if there is time, and leave the rest to the next runner."""
        self._leaving = True
        self._stop.set()
        self._hurry()

    async def run(self) -> None:
        """To its end: reported, or lost, or left."""
        cause = self.grant.traceparent
        with tracing.quietly() if cause is None else tracing.span("attempt", parent=cause):
            tracing.note(job=self.grant.job, attempt=self.grant.number)
            await self._run()

    async def _run(self) -> None:
        life, beat = asyncio.create_task(self._live()), asyncio.create_task(self._beat())
        try:
            await asyncio.wait({life, beat}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            life.cancel()
            beat.cancel()
            ends = await asyncio.gather(life, beat, return_exceptions=True)
        while self._processes.alive():
            self._processes.kill()
            await asyncio.sleep(LOOK)
        broken = _broken(*ends)
        if broken is not None:
            log.error("attempt dropped", exc_info=broken, extra={"attempt": self.grant.attempt})
        if isinstance(ends[0], GaveUp) or (broken is not None and not await self._resign(broken)):
            return
        self._home.forget(self.grant)

    async def _live(self) -> None:
        failure = None
        if self._record.started and self._processes.began:
            self._say("info", "The runner was started anew, and took the job over.")
        else:
            failure = await self._prepare()
            if failure is None and not self._stop.is_set():
                self._say("info", f"Attempt {self.grant.number} was started.")
                await self._speak_first()
                failure = self._start()
        await self._watch()
        await self._hand_over(failure)

    async def _prepare(self) -> dict[str, str] | None:
        """Why the program cannot be started, or None."""
        try:
            shards = await self._patiently(lambda: inputs.fetch(self._ingest, self.grant, self._work), self._stop)
            rules = self._rules
            inputs.write_job(self.grant, self._work, rules.trainer_url, shards, memory=rules.memory)
        except GaveUp:
            return None  # told to stop
        except errors.Error as exc:
            return {"reason": "inputs-unavailable", "message": exc.detail}
        except OSError as exc:
            return no_room(exc)
        self._say("info", f"Read {sum(shard.rows for shard in shards)} rows of {self.grant.dataset}.")
        return None

    def _start(self) -> dict[str, str] | None:
        """Why the program was not started, or None."""
        try:
            # Or not at all: a runner that knows nothing of it would start it again.
            process = tracing.child_of(self.grant.traceparent)
            self._write_down(started=True, process=process, began=time.time_ns())
            self._processes.start(process)
        except OSError as exc:
            return no_room(exc)
        return None

    async def _watch(self) -> None:
        """Until the program has ended, by itself or by us."""
        loop = asyncio.get_running_loop()
        kill_at: float | None = None
        while self._processes.alive():
            if self._processes.resident() > self._rules.memory:
                self._note(ended_for="memory")
                self._processes.kill()
            elif self._stop.is_set() and kill_at is None:
                self._note(ended_for="stop")
                kill_at = loop.time() + self._rules.grace.total_seconds()
                self._processes.terminate()
            elif kill_at is not None and loop.time() > kill_at:
                self._processes.kill()
            await asyncio.sleep(LOOK)

    async def _hand_over(self, failure: dict[str, str] | None) -> None:
        """Store what came of the attempt, and say how it ended."""
        self._handing_over = True
        self._hurry()
        self._tell_of_program()
        result = self._result()
        if result is None and failure is None:
            if self._record.ended_for == "memory":
                failure = _out_of_memory(self._rules.memory)
            elif self._stop.is_set() or self._record.ended_for == "stop":
                result = AttemptResult(outcome=Outcome.STOPPED, message="The attempt was stopped.")
            elif tail := self._processes.tail():
                self._say("error", tail)
        try:
            if result is not None and result.model is not None:
                for file in result.model.files:
                    await self._put(file)
            await self._finish(result, failure)
        except LOST:
            raise
        except errors.Error as exc:
            message = f"The trainer does not take what came of the attempt: {exc.detail}"[:2000]
            await self._finish(None, {"reason": "platform-error", "message": message})

    async def _resign(self, why: BaseException) -> bool:
        """Nobody can go on: say so, since an attempt that nobody reports begins anew, again and again. False: later."""
        self._handing_over = True
        self._hurry()
        said = why.detail if isinstance(why, errors.Error) else f"{type(why).__name__}: {why}"
        failure = {
            "reason": "platform-error",
            "message": f"The runner could not go on: {said}".replace("\0", "")[:2000],
        }
        self._unsaid.clear()  # they may be what is not taken
        try:
            await self._finish(None, failure)
        except GaveUp:
            return False
        except errors.Error as exc:
            log.warning("not reported", extra={"attempt": self.grant.attempt, "error": exc.detail})
        return True

    async def _put(self, file: OutputFile) -> None:
        path = self._work / Path(file.path).name
        await self._patiently(lambda: self._trainer.put_output(self.grant, file, path), self._late)

    async def _finish(self, result: AttemptResult | None, failure: dict[str, str] | None) -> None:
        exit_code, document = self._processes.exit_code(), None if result is None else result.to_json()

        async def say() -> None:
            await self._flush()
            await self._trainer.finish(self.grant, exit_code=exit_code, result=document, failure=failure)

        await self._patiently(say, self._late)
        log.info("handed over", extra={"attempt": self.grant.attempt, "exit_code": exit_code})

    def _tell_of_program(self) -> None:
        """Its spans: it cannot send any itself."""
        record, cause = self._record, self.grant.traceparent
        if tracing.is_on() and cause is not None and record.process:
            exit_code, now = self._processes.exit_code(), time.time_ns()
            for span in traces.spans_of(
                record.process, cause, self._work, began=record.began, ended=now, exit_code=exit_code
            ):
                tracing.keep(span)

    def _result(self) -> AttemptResult | None:
        try:
            return AttemptResult.from_json(json.loads((self._work / RESULT_FILE).read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    async def _patiently(self, act: Callable[[], Awaitable[T]], give_up: asyncio.Event) -> T:
        """Whoever is away comes back: until then, or until there is no time any more, try again."""
        pause = SOONEST
        while True:
            try:
                return await act()
            except PASSING as exc:
                asked_for = timedelta(0) if exc.retry_after is None else exc.retry_after
                await first(give_up, seconds=max(pause, asked_for.total_seconds()))
                pause = min(2 * pause, LATEST)
            if give_up.is_set():
                raise GaveUp

    def _hurry(self) -> None:
        if self._leaving and self._handing_over:
            asyncio.get_running_loop().call_later(FAREWELL.total_seconds(), self._late.set)

    async def _beat(self) -> None:
        """Until the attempt is lost."""
        while True:
            with contextlib.suppress(*PASSING), tracing.quietly():
                if await self._trainer.beat(self.grant):
                    self._stop.set()
                await self._flush()
            await asyncio.sleep(self._rules.beat.total_seconds())

    def _note(self, **known: Any) -> None:
        """Known from now on. On a disk without room, to this runner alone."""
        try:
            self._write_down(**known)
        except OSError:
            log.warning("not written down", exc_info=True, extra={"attempt": self.grant.attempt})

    def _write_down(self, **known: Any) -> None:
        self._record = replace(self._record, **known)
        self._home.save(self._record)

    def _say(self, level: str, message: str) -> None:
        """A line for the job's log. It goes out with the next heartbeat."""
        self._note(lines=self._record.lines + 1)
        at = datetime.now(UTC).isoformat()
        self._unsaid.append({"number": self._record.lines, "at": at, "level": level, "message": message})

    async def _speak_first(self) -> None:
        """Have our lines stored before the program can write its own; a trainer that is away is not waited for."""
        with contextlib.suppress(TimeoutError, *PASSING):
            async with asyncio.timeout(FIRST_WORD):
                await self._flush()

    async def _flush(self) -> None:
        async with self._speaking:  # of two at once, the second would drop what neither has sent
            batch = list(self._unsaid)
            if batch:
                await self._trainer.lines(self.grant, batch)
                del self._unsaid[: len(batch)]


def _broken(life: BaseException | None, beat: BaseException | None) -> Exception | None:
    """Why the attempt ended otherwise than handed over, left to the next runner, or lost."""
    if life is None or any(isinstance(end, (GaveUp, *LOST)) for end in (life, beat)):
        return None
    return next((end for end in (life, beat) if isinstance(end, Exception)), None)


def no_room(exc: OSError) -> dict[str, str]:
    """The failure that an attempt has then."""
    return {"reason": "platform-error", "message": f"The runner has no room for the job: {exc.strerror}."}


def _out_of_memory(limit: int) -> dict[str, str]:
    said = f"The job took more than the {limit >> 20} MiB of memory that it may."
    return {"reason": "out-of-memory", "message": said, "hint": MEMORY_HINT}
