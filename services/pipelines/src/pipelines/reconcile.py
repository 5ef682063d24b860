"""Bring every step to its end: look, decide, act with no transaction open, record what the fence allows."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import errors, events, leases, tracing
from kit.clients import Principal
from kit.failpoints import failpoint
from kit.problems import is_lost_database
from pipelines import actions
from pipelines.domain import kinds as shapes
from pipelines.domain.documents import texts_of
from pipelines.domain.expressions import names_in, values_in
from pipelines.domain.references import Reference, references_in, resolve
from pipelines.domain.steps import (
    Again,
    Anew,
    Begin,
    Cancel,
    Elect,
    Fail,
    Rest,
    Step,
    StepFailed,
    StepPhase,
    StepReason,
    TimeOut,
    Work,
    judge,
    key_of,
    next_step,
)
from pipelines.kinds.deploy import Deploy
from pipelines.kinds.doing import LOOK, Doing, Done, Kind, Neighbours, Working
from pipelines.kinds.gate import Gate
from pipelines.kinds.ingest import Ingest
from pipelines.kinds.promote import Promote
from pipelines.kinds.train import Train
from pipelines.store import results
from pipelines.store.results import ResultStore
from pipelines.store.runs import RunStore
from pipelines.store.steps import KEY, Context, StepStore
from pipelines.store.tables import steps

log = logging.getLogger(__name__)
TTL = timedelta(seconds=10)
KINDS: Mapping[str, Kind] = {
    "ingest": Ingest(),
    "train": Train(),
    "gate": Gate(),
    "promote": Promote(),
    "deploy": Deploy(),
}


class Reconciler:
    """What every replica does with a step that it has leased."""

    def __init__(
        self, engine: AsyncEngine, ask: Neighbours, *, kinds: Mapping[str, Kind] = KINDS, ttl: timedelta = TTL
    ) -> None:
        self._engine = engine
        self._ask = ask
        self._kinds = kinds
        self._ttl = ttl

    async def reconcile(self, lease: leases.Lease) -> None:
        """Bring the step as far as it goes now, and keep the lease meanwhile."""
        try:
            async with leases.kept(self._engine, steps, lease, ttl=self._ttl):
                await self._advance(lease)
        except leases.LeaseLost:
            log.warning("fenced", extra={"step": str(lease.id), "fence": lease.fence})

    async def _advance(self, lease: leases.Lease) -> None:
        """Do one thing after the other until the step waits for something, or is over."""
        while (seen := await self._look(lease)) is not None:
            step = seen.sight.step
            decision = next_step(seen.sight)
            tracing.note(step=step.spec.name, kind=step.spec.kind, decision=type(decision).__name__.lower())
            log.info(
                "step",
                extra={"run": str(step.run_id), "step": step.spec.name, "next": type(decision).__name__.lower()},
            )
            try:
                on = await self._act(lease, seen, decision)
            except Exception as error:
                # Whatever it is: a step that is left as it was would meet it for ever, and its run never end.
                if is_lost_database(error):
                    raise
                if not isinstance(error, errors.Error):
                    log.exception("step broke", extra={"run": str(step.run_id), "step": step.spec.name})
                await self._failed(lease, seen, error)
                return
            if not on:
                return

    async def _look(self, lease: leases.Lease) -> Context | None:
        async with self._engine.begin() as connection:
            return await StepStore(connection).context(lease)

    async def _act(self, lease: leases.Lease, seen: Context, decision: object) -> bool:
        """Says whether there is more to do at once."""
        step = seen.sight.step
        match decision:
            case Rest():
                tracing.skip()
                async with self._engine.begin() as connection:
                    await StepStore(connection).rest(lease, step)
                return False
            case Cancel() | TimeOut():
                await self._end(lease, seen, decision)
                return False
            case Begin():
                return await self._begin(lease, seen)
            case Elect():
                return await self._elect(lease, seen)
            case Work():
                await self._work(lease, seen)
                return False
            case _:  # pragma: no cover - there are no others
                raise AssertionError(decision)

    async def _begin(self, lease: leases.Lease, seen: Context) -> bool:
        step, data = seen.sight.step, await self._data(seen)
        if step.spec.when is not None and not await self._condition(step.spec.when, data):
            message = f"`{step.spec.when[:300]}` is false ({values_in(step.spec.when, data)})"
            await self._settle(lease, seen, StepPhase.SKIPPED, reason=StepReason.CONDITION, message=message)
            return False
        outputs = {name: said["outputs"] for name, said in data["steps"].items()}
        given = shapes.inputs_of(step.spec.kind, resolve(dict(step.spec.with_), data["parameters"], outputs))
        prepared = await self._kinds[step.spec.kind].prepare(self._doing(seen, data), given)
        key = key_of(step.project, step.spec.kind, prepared.key)
        failpoint("pipelines.step.before_start")
        async with self._engine.begin() as connection:
            begun = await StepStore(connection).begin(lease, step, prepared.inputs, key)
        failpoint("pipelines.step.after_start")
        return await self._still(lease, step, begun)

    async def _elect(self, lease: leases.Lease, seen: Context) -> bool:
        step = seen.sight.step
        if step.key is None:
            async with self._engine.begin() as connection:
                elected = await StepStore(connection).elect(lease, step)
            return await self._still(lease, step, elected)
        async with self._engine.begin() as connection:
            claim = await ResultStore(connection).claim(step, step.key)
            if isinstance(claim, results.Mine):
                elected = await StepStore(connection).elect(lease, step)
            elif isinstance(claim, results.Others):
                await StepStore(connection).postpone(
                    lease,
                    step,
                    LOOK,
                    awaits=f"{KEY}{step.key}",
                    reason=StepReason.EQUAL_STEP,
                    message="An equal step is doing this; its result will be used.",
                )
                return False
        if isinstance(claim, results.Mine):
            return await self._still(lease, step, elected)
        if await self._kinds[step.spec.kind].still_there(self._doing(seen, {}), claim.outputs):
            message = "An equal step has done this before."
            await self._settle(lease, seen, StepPhase.REUSED, message=message, outputs=claim.outputs)
            return False
        async with self._engine.begin() as connection:
            await ResultStore(connection).take_over(step, step.key, claim.step_id)
        return True

    async def _work(self, lease: leases.Lease, seen: Context) -> None:
        step = seen.sight.step
        kind = self._kinds[step.spec.kind]
        data = await self._data(seen) if step.spec.kind == "gate" else {}
        # Whether a neighbour is done is asked again and again: a trace of an hour would have thousands of such spans.
        with tracing.quietly() if step.memo else contextlib.nullcontext():
            found = await kind.work(self._doing(seen, data))
        match found:
            case Done(outputs=outputs):
                await self._settle(lease, seen, StepPhase.SUCCEEDED, outputs=outputs)
            case Working(memo=memo, awaits=awaits, due_in=due_in):
                if step.memo:
                    tracing.skip()
                async with self._engine.begin() as connection:
                    await StepStore(connection).postpone(lease, step, due_in, memo=memo, awaits=awaits)

    async def _end(self, lease: leases.Lease, seen: Context, decision: Cancel | TimeOut) -> None:
        step = seen.sight.step
        if step.elected:
            await self._kinds[step.spec.kind].cancel(self._doing(seen, {}))
        if isinstance(decision, Cancel):
            await self._settle(lease, seen, StepPhase.CANCELLED, reason=StepReason.CANCELLED, anew=True)
            return
        message = f"It did not end within {step.spec.timeout.total_seconds():g} s."
        await self._settle(lease, seen, StepPhase.FAILED, reason=StepReason.TIMEOUT, message=message, anew=True)

    async def _failed(self, lease: leases.Lease, seen: Context, error: Exception) -> None:
        step = seen.sight.step
        verdict = judge(error, step, seen.sight.now)
        log.info("step failed", extra={"step": step.spec.name, "verdict": type(verdict).__name__, "why": str(error)})
        match verdict:
            case Again(due_in=due_in, message=message):
                async with self._engine.begin() as connection:
                    await StepStore(connection).fail_once(lease, step, due_in, message)
            case Anew(due_in=due_in, message=message):
                async with self._engine.begin() as connection:
                    if await StepStore(connection).begin_anew(lease, step, due_in, message):
                        await _free(connection, step)
            case Fail(reason=reason, message=message, anew=anew):
                await self._settle(lease, seen, StepPhase.FAILED, reason=reason, message=message, anew=anew)

    async def _settle(
        self,
        lease: leases.Lease,
        seen: Context,
        phase: StepPhase,
        *,
        reason: str = "",
        message: str = "",
        outputs: Mapping[str, Any] | None = None,
        anew: bool = False,
    ) -> None:
        """Record how a step ended, and all that follows from it, or nothing."""
        step, run, ended = seen.sight.step, seen.run, False
        failpoint("pipelines.step.before_record")
        async with self._engine.begin() as connection:
            locked = await RunStore(connection).get(run.project, run.id, lock=True)
            recorded = await StepStore(connection).settle(
                lease, step, phase, reason=reason, message=message, outputs=outputs, anew=anew
            )
            if recorded:
                await _conclude(connection, step, phase, outputs)
                ended = await actions.go_on(connection, locked)
        failpoint("pipelines.step.after_record")
        if ended:
            failpoint("pipelines.run.after_settle")
        log.info("settled", extra={"step": step.spec.name, "phase": phase, "reason": reason, "recorded": recorded})

    async def _still(self, lease: leases.Lease, step: Step, kept: bool) -> bool:
        """Whether the step is still ours to go on with. If it is wanted otherwise by now, the lease is given back."""
        if not kept:
            async with self._engine.begin() as connection:
                await StepStore(connection).rest(lease, step)
        return kept

    async def _condition(self, when: str, data: Mapping[str, Any]) -> bool:
        [verdict] = await self._ask.expressions.evaluate([when], data)
        if verdict.value is None:
            raise StepFailed(StepReason.EXPRESSION, f"`{when[:500]}` {verdict.error}")
        return verdict.value

    async def _data(self, seen: Context) -> dict[str, Any]:
        """What references and expressions of the step can speak of: the parameters, and the steps that they name."""
        spec = seen.sight.step.spec
        named: set[str] = set()
        for _, text in texts_of(spec.with_):
            named |= {found.step for found in references_in(text) if isinstance(found, Reference) and found.step}
        required = (seen.sight.step.inputs or {}).get("require", [])
        for text in [*required, *([spec.when] if spec.when else [])]:
            named |= names_in(text)[0]
        async with self._engine.begin() as connection:
            outputs = await StepStore(connection).outputs(seen.sight.step, named)
        said = {name: {"outputs": dict(value)} for name, value in outputs.items()}
        return {"steps": said, "parameters": dict(seen.run.parameters)}

    def _doing(self, seen: Context, data: Mapping[str, Any]) -> Doing:
        run = seen.run
        return Doing(seen.sight.step, Principal(run.project, run.role, run.subject), self._ask, data)


async def wake(connection: AsyncConnection, source: str, happened: Sequence[events.Event]) -> None:
    """Events of a neighbour make the steps due that await their subjects."""
    awaited = {(event.project, f"{source}:{event.subject}") for event in happened}
    if await StepStore(connection).wake(awaited):
        await leases.hint(connection, actions.SERVICE)


async def _conclude(
    connection: AsyncConnection, step: Step, phase: StepPhase, outputs: Mapping[str, Any] | None
) -> None:
    """What the end of a step means for its key, and for whoever waits for that."""
    if step.key is None:
        return
    if phase is StepPhase.SUCCEEDED and outputs is not None:
        await ResultStore(connection).keep(step, step.key, outputs)
    elif phase is StepPhase.REUSED:
        await ResultStore(connection).used(step, step.key)
        return
    else:
        await ResultStore(connection).free(step, step.key)
    await _tell(connection, step, step.key)


async def _free(connection: AsyncConnection, step: Step) -> None:
    if step.key is not None:
        await ResultStore(connection).free(step, step.key)
        await _tell(connection, step, step.key)


async def _tell(connection: AsyncConnection, step: Step, key: str) -> None:
    if await StepStore(connection).wake([(step.project, f"{KEY}{key}")]):
        await leases.hint(connection, actions.SERVICE)
