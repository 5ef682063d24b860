"""Steps in the database. Every statement about the steps table is in this file."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import leases, tracing
from kit.db import NOW
from kit.ids import uuid7
from pipelines.domain import graphs
from pipelines.domain.definitions import StepSpec
from pipelines.domain.runs import Node, Run, Skip
from pipelines.domain.steps import FINAL, UNDONE, Sight, Step, StepPhase, StepReason
from pipelines.store.runs import run_of
from pipelines.store.tables import runs, steps

_NOT_READ = {"due_at", "fence", "lease_until", "traceparent", "position", "rank", "awaits"}
COLUMNS = [column for column in steps.c if column.name not in _NOT_READ]
KEY = "key:"
"""Of what a step awaits that another one does."""

_RESET: dict[str, Any] = {"failures": 0, "failing_since": None}
_ANEW: dict[str, Any] = {"inputs": None, "key": None, "elected": False, "memo": {}, "attempt_at": None, **_RESET}
"""What makes the next look begin another attempt."""


@dataclass(frozen=True)
class Context:
    """What a step is decided on: what was seen of it, and the run that it is of."""

    run: Run
    sight: Sight


class StepStore:
    """Reads and writes steps in the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add_all(self, run: Run, specs: Mapping[str, StepSpec]) -> None:
        """The steps of a new run. None of them is due before somebody says so."""
        order = graphs.order_of({name: spec.needs for name, spec in specs.items()})
        ranks = {name: rank for rank, name in enumerate(order)}
        rows = [
            {
                "project": run.project,
                "id": uuid7(),
                "run_id": run.id,
                "name": spec.name,
                "position": position,
                "rank": ranks[spec.name],
                "spec": _document(spec),
                "due_at": None,
            }
            for position, spec in enumerate(specs.values())
        ]
        await self._connection.execute(sa.insert(steps), rows)

    async def context(self, lease: leases.Lease) -> Context | None:
        """All that is needed to decide about a leased step. None: it was deleted."""
        query = sa.select(*COLUMNS, sa.func.clock_timestamp().label("now")).where(_is(lease.project, lease.id))
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            return None
        step = _step(row)
        found = await self._connection.execute(sa.select(runs).where(_run_is(step.project, step.run_id)))
        run_row = found.one()
        needs = await self._phases(step)
        sight = Sight(step, needs, run_row.cancel_requested, row.now)
        return Context(run_of(run_row), sight)

    async def _phases(self, step: Step) -> Mapping[str, StepPhase]:
        if not step.spec.needs:
            return {}
        query = sa.select(steps.c.name, steps.c.phase).where(_of(step), steps.c.name.in_(step.spec.needs))
        return {row.name: StepPhase(row.phase) for row in await self._connection.execute(query)}

    async def outputs(self, step: Step, names: Collection[str]) -> dict[str, Mapping[str, Any]]:
        """What these steps of the same run said."""
        if not names:
            return {}
        query = sa.select(steps.c.name, steps.c.outputs).where(_of(step), steps.c.name.in_(sorted(names)))
        return {row.name: row.outputs or {} for row in await self._connection.execute(query)}

    async def of_run(self, project: str, run_id: uuid.UUID) -> Sequence[Step]:
        """As they are written in the definition."""
        query = sa.select(*COLUMNS).where(steps.c.project == project, steps.c.run_id == run_id)
        return [_step(row) for row in await self._connection.execute(query.order_by(steps.c.position))]

    async def nodes(self, run: Run) -> Sequence[Node]:
        """The steps of a run (locked by this transaction), each after those that it needs."""
        query = (
            sa.select(steps.c.name, steps.c.spec, steps.c.phase, steps.c.reason, steps.c.message)
            .where(steps.c.project == run.project, steps.c.run_id == run.id)
            .order_by(steps.c.rank)
        )
        return [
            Node(
                name=row.name,
                needs=row.spec["needs"],
                if_skipped=row.spec["if_skipped"],
                phase=StepPhase(row.phase),
                reason=row.reason,
                message=row.message,
            )
            for row in await self._connection.execute(query)
        ]

    async def make_ready(self, run: Run, names: Sequence[str]) -> None:
        """Make the steps due that can begin now."""
        wanted = sa.and_(_in(run), steps.c.name.in_(names), steps.c.phase == StepPhase.WAITING)
        # One that somebody looks at right now, too: what he saw may be older than what made the step ready.
        asleep = sa.or_(steps.c.due_at.is_(None), steps.c.lease_until.is_not(None))
        await self._connection.execute(sa.update(steps).where(wanted, asleep).values(due_at=NOW, generation=_NEXT))

    async def skip(self, run: Run, skipped: Mapping[str, Skip]) -> None:
        """End steps that are never begun."""
        for name, why in skipped.items():
            wanted = sa.and_(_in(run), steps.c.name == name, steps.c.phase == StepPhase.WAITING)
            values = {"phase": StepPhase.SKIPPED, "reason": why.reason, "message": why.message, "finished_at": NOW}
            await self._connection.execute(sa.update(steps).where(wanted).values(due_at=None, **values))

    async def request_cancel(self, run: Run) -> None:
        """End what has not begun, and wake the rest to be ended."""
        await self._lock(run)
        never = sa.and_(_in(run), steps.c.phase == StepPhase.WAITING, steps.c.attempt == 0)
        values = {"phase": StepPhase.CANCELLED, "reason": StepReason.CANCELLED, "finished_at": NOW, "due_at": None}
        await self._connection.execute(sa.update(steps).where(never).values(generation=_NEXT, **values))
        live = sa.and_(_in(run), steps.c.phase.in_(UNDONE))
        await self._connection.execute(sa.update(steps).where(live).values(due_at=NOW, generation=_NEXT))

    async def reopen(self, run: Run) -> None:
        """Let the steps that came to nothing, and those that were skipped for them, begin again."""
        await self._lock(run)
        undone = sa.or_(
            steps.c.phase.in_([StepPhase.FAILED, StepPhase.CANCELLED]),
            sa.and_(steps.c.phase == StepPhase.SKIPPED, steps.c.reason == StepReason.NEED_FAILED),
        )
        values = {"phase": StepPhase.WAITING, "reason": "", "message": "", "finished_at": None, "started_at": None}
        values |= {"traceparent": tracing.traceparent.get()}
        statement = sa.update(steps).where(_in(run), undone)
        await self._connection.execute(
            statement.values(
                retried=0, elected=False, attempt_at=None, due_at=None, generation=_NEXT, **values, **_RESET
            )
        )

    async def begin(self, lease: leases.Lease, seen: Step, inputs: Mapping[str, Any], key: str | None) -> bool:
        """Persist what an attempt is begun with, and keep the lease. False: it is another's, or not wanted any more."""
        values = {
            "phase": StepPhase.RUNNING,
            "reason": "",
            "message": "",
            "attempt": steps.c.attempt + 1,
            "inputs": dict(inputs),
            "key": key,
            "memo": {},
            "attempt_at": NOW,
            "started_at": sa.func.coalesce(steps.c.started_at, NOW),
            **_RESET,
        }
        return await self._kept(lease, seen, values)

    async def elect(self, lease: leases.Lease, seen: Step) -> bool:
        """Note that this step does what its key stands for, and keep the lease."""
        values = {
            "phase": StepPhase.RUNNING,
            "elected": True,
            "reason": "",
            "message": "",
            "awaits": None,
            "attempt_at": sa.func.coalesce(steps.c.attempt_at, NOW),
            "started_at": sa.func.coalesce(steps.c.started_at, NOW),
        }
        return await self._kept(lease, seen, values)

    async def settle(
        self,
        lease: leases.Lease,
        seen: Step,
        phase: StepPhase,
        *,
        reason: str = "",
        message: str = "",
        outputs: Mapping[str, Any] | None = None,
        anew: bool = False,
    ) -> bool:
        """Record how a step ended. `anew`: should it be resumed, another attempt begins."""
        values: dict[str, Any] = {"phase": phase, "reason": reason, "message": message[:2000], "finished_at": NOW}
        values |= {"outputs": None if outputs is None else dict(outputs), "awaits": None, "elected": False}
        values["started_at"] = sa.func.coalesce(steps.c.started_at, NOW)
        return await self._record(lease, seen, None, **(_ANEW | values if anew else values))

    async def postpone(
        self,
        lease: leases.Lease,
        seen: Step,
        due_in: timedelta | None,
        *,
        memo: Mapping[str, Any] | None = None,
        awaits: str | None = None,
        reason: str = "",
        message: str = "",
    ) -> bool:
        """Look at a running step again after that time, or when what it awaits happens."""
        values: dict[str, Any] = {"reason": reason, "message": message[:2000], "awaits": awaits, **_RESET}
        if memo is not None:
            values["memo"] = dict(memo)
        return await self._record(lease, seen, due_in, **values)

    async def rest(self, lease: leases.Lease, seen: Step) -> bool:
        """Nothing to do: until somebody says otherwise."""
        return await self._record(lease, seen, None)

    async def fail_once(self, lease: leases.Lease, seen: Step, due_in: timedelta, message: str) -> bool:
        """A try brought nothing; the attempt goes on."""
        since = sa.func.coalesce(steps.c.failing_since, NOW)
        values = {"reason": StepReason.RETRYING, "message": message[:2000], "failures": seen.failures + 1}
        return await self._record(lease, seen, due_in, failing_since=since, **values)

    async def begin_anew(self, lease: leases.Lease, seen: Step, due_in: timedelta, message: str) -> bool:
        """The attempt came to nothing; another one begins later."""
        values = _ANEW | {"reason": StepReason.RETRYING, "message": message[:2000], "awaits": None}
        return await self._record(lease, seen, due_in, **values, retried=seen.retried + 1)

    async def wake(self, awaited: Iterable[tuple[str, str]]) -> int:
        """Make the steps due that await one of these (project, subject). Says how many.

        The generation is raised: somebody may be looking right now, at what was there before the event.
        """
        pairs = sorted(set(awaited))
        if not pairs:
            return 0
        mine = sa.tuple_(steps.c.project, steps.c.awaits).in_(pairs)
        # In one order everywhere, so that nobody waits for another in a circle.
        found = sa.select(steps.c.id).where(mine, steps.c.phase.in_(UNDONE)).order_by(steps.c.id)
        ids = list((await self._connection.execute(found.with_for_update())).scalars())
        if ids:
            woken = sa.update(steps).where(steps.c.id.in_(ids)).values(due_at=NOW, generation=_NEXT)
            await self._connection.execute(woken)
        return len(ids)

    async def is_live(self, project: str, step_id: uuid.UUID) -> bool:
        """Whether a step is there and has not ended."""
        of = sa.and_(_is(project, step_id), steps.c.phase.not_in(FINAL))
        return bool((await self._connection.execute(sa.select(sa.exists().where(of)))).scalar_one())

    async def delete_all(self, run: Run) -> None:
        await self._connection.execute(sa.delete(steps).where(_in(run)))

    async def _lock(self, run: Run) -> None:
        await self._connection.execute(sa.select(steps.c.id).where(_in(run)).order_by(steps.c.id).with_for_update())

    async def _kept(self, lease: leases.Lease, seen: Step, values: Mapping[str, Any]) -> bool:
        mine = sa.and_(
            _is(lease.project, lease.id),
            steps.c.fence == lease.fence,
            steps.c.generation == seen.generation,
            steps.c.phase.not_in(FINAL),
        )
        return (await self._connection.execute(sa.update(steps).where(mine).values(values))).rowcount == 1

    async def _record(self, lease: leases.Lease, seen: Step, due_in: timedelta | None, **values: Any) -> bool:
        return await leases.record(
            self._connection, steps, lease, generation=seen.generation, final=FINAL, due_in=due_in, **values
        )


_NEXT = steps.c.generation + 1


def _is(project: str, step_id: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(steps.c.project == project, steps.c.id == step_id)


def _run_is(project: str, run_id: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(runs.c.project == project, runs.c.id == run_id)


def _in(run: Run) -> sa.ColumnElement[bool]:
    return sa.and_(steps.c.project == run.project, steps.c.run_id == run.id)


def _of(step: Step) -> sa.ColumnElement[bool]:
    return sa.and_(steps.c.project == step.project, steps.c.run_id == step.run_id)


def _document(spec: StepSpec) -> dict[str, Any]:
    return {
        "kind": spec.kind,
        "needs": list(spec.needs),
        "with": spec.with_,
        "when": spec.when,
        "retries": spec.retries,
        "timeout": spec.timeout.total_seconds(),
        "if_skipped": spec.if_skipped,
    }


def _spec(name: str, document: Mapping[str, Any]) -> StepSpec:
    return StepSpec(
        name=name,
        kind=document["kind"],
        needs=tuple(document["needs"]),
        with_=document["with"],
        when=document["when"],
        retries=document["retries"],
        timeout=timedelta(seconds=document["timeout"]),
        if_skipped=document["if_skipped"],
    )


def _step(row: sa.Row[*tuple[Any, ...]]) -> Step:
    values = {name: value for name, value in row._mapping.items() if name not in ("name", "spec", "now")}
    return Step(**values | {"spec": _spec(row.name, row.spec), "phase": StepPhase(row.phase)})
