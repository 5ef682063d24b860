"""What has two callers, or two stores: pipelines and their definitions, and how a run goes on."""

import asyncio
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kit import audit, events, leases
from kit.callers import Caller
from kit.failpoints import failpoint
from kit.ids import uuid7
from pipelines.domain.definitions import MAX_ERRORS, Definition, check, definition_of, refusal
from pipelines.domain.documents import Document, Place
from pipelines.domain.pipelines import Pipeline, PipelineInUse
from pipelines.domain.runs import (
    FINAL,
    NothingToResume,
    Run,
    RunOver,
    RunUnderWay,
    advance,
    parameters_of,
    role_of,
)
from pipelines.store.pipelines import PipelineStore
from pipelines.store.runs import RunStore
from pipelines.store.steps import StepStore

SERVICE = "pipelines"
OLD = 200


class Compiler(Protocol):
    """Reads expressions somewhere where they can do no harm."""

    async def compile(self, expressions: list[str]) -> list[str | None]:
        """For each: what is wrong with it, or None."""
        ...


async def checked(document: Document, compiler: Compiler) -> Definition:
    """The definition.

    Raises:
        InvalidPipeline: with every mistake and its place.
    """
    # In a thread: a megabyte of steps takes a second, which nobody else should wait for.
    definition, found = await asyncio.to_thread(check, document)
    places: list[Place] = list(found)
    if definition is not None and definition.expressions:
        mistakes = await compiler.compile([expression.text for expression in definition.expressions])
        for expression, mistake in zip(definition.expressions, mistakes, strict=True):
            if mistake is not None:
                places.append(document.place(expression.pointer, mistake))
    if definition is None or places:
        places.sort(key=lambda place: place.get("line", 0))
        raise refusal(places[:MAX_ERRORS])
    return definition


async def change_pipeline(
    connection: AsyncConnection, caller: Caller, pipeline: Pipeline, definition: Mapping[str, Any]
) -> Pipeline:
    """Another definition for the next run. The same one changes nothing."""
    if _same(pipeline.definition, definition):
        return pipeline
    changed = await PipelineStore(connection).change(pipeline, definition)
    await audit.record(connection, caller, "update", "pipeline", pipeline.name, {"revision": changed.revision})
    return changed


async def delete_pipeline(connection: AsyncConnection, caller: Caller, pipeline: Pipeline) -> None:
    """Delete a definition (locked by this transaction); its runs stay.

    Raises:
        PipelineInUse: a run of it is under way.
    """
    if await RunStore(connection).any_under_way(pipeline.project, pipeline.name):
        raise PipelineInUse(f"A run of {pipeline.name} is under way.")
    await PipelineStore(connection).delete(pipeline)
    await audit.record(connection, caller, "delete", "pipeline", pipeline.name, {"revision": pipeline.revision})


async def start_run(connection: AsyncConnection, caller: Caller, name: str, given: Mapping[str, Any]) -> Run:
    """A run of the pipeline as it is now.

    Raises:
        PipelineNotFound: there is no such pipeline.
        ParametersInvalid: one is unknown, or of another type than its default.
    """
    # Locked, so that a pipeline that is being deleted begins no run.
    pipeline = await PipelineStore(connection).get(caller.project, name, lock=True)
    definition = definition_of(pipeline.definition)
    parameters = parameters_of(definition.parameters, given)
    run = await RunStore(connection).add(
        uuid7(), pipeline, parameters=parameters, subject=caller.subject, role=role_of(caller.role)
    )
    await StepStore(connection).add_all(run, definition.steps)
    await audit.record(connection, caller, "create", "run", str(run.id), {"pipeline": name})
    await go_on(connection, run)
    return run


async def cancel_run(connection: AsyncConnection, caller: Caller, run_id: uuid.UUID) -> Run:
    """Ask for the end of a run. Asking again is asking.

    Raises:
        RunNotFound: there is none.
        RunOver: it has ended.
    """
    store = RunStore(connection)
    run = await store.get(caller.project, run_id, lock=True)
    if run.phase in FINAL:
        raise RunOver(f"Run {run_id} has {run.phase} already.")
    if await store.request_cancel(run):
        await StepStore(connection).request_cancel(run)
        await audit.record(connection, caller, "cancel", "run", str(run_id), {})
        await go_on(connection, await store.get(caller.project, run_id))
    return await store.get(caller.project, run_id)


async def resume_run(connection: AsyncConnection, caller: Caller, run_id: uuid.UUID) -> Run:
    """Let a run go on from where it came to nothing. What succeeded is not done again.

    Raises:
        RunNotFound: there is none.
        NothingToResume: it goes on, or has succeeded.
    """
    store = RunStore(connection)
    run = await store.get(caller.project, run_id, lock=True)
    if not await store.reopen(run):
        raise NothingToResume(f"Run {run_id} is {run.phase}: only one that failed or was cancelled can be resumed.")
    await StepStore(connection).reopen(run)
    await audit.record(connection, caller, "resume", "run", str(run_id), {})
    run = await store.get(caller.project, run_id)
    await go_on(connection, run)
    return run


async def delete_run(connection: AsyncConnection, caller: Caller, run_id: uuid.UUID) -> None:
    """Forget a run that has ended; what it made stays.

    Raises:
        RunNotFound: there is none.
        RunUnderWay: it has not ended.
    """
    run = await RunStore(connection).get(caller.project, run_id, lock=True)
    if run.phase not in FINAL:
        raise RunUnderWay(f"Run {run_id} is under way; cancel it first.")
    await _drop(connection, run)
    await audit.record(connection, caller, "delete", "run", str(run_id), {"pipeline": run.pipeline})


async def retire_runs(engine: AsyncEngine, age: timedelta) -> int:
    """Forget runs that ended longer ago than that, some in each transaction, until none is left. Says how many."""
    forgotten, full = 0, True
    while full:
        async with engine.begin() as connection:
            old = await RunStore(connection).old(age, limit=OLD)
            for run in old:
                await _drop(connection, run)
        forgotten, full = forgotten + len(old), len(old) == OLD
    return forgotten


async def go_on(connection: AsyncConnection, run: Run) -> bool:
    """What follows from the states of the steps of a run that this transaction has locked. Says whether it ended."""
    steps = StepStore(connection)
    following = advance(await steps.nodes(run), cancelled=run.cancel_requested)
    await steps.skip(run, following.skipped)
    if following.ready:
        await steps.make_ready(run, following.ready)
        await leases.hint(connection, SERVICE)
    if following.phase is None:
        return False
    failpoint("pipelines.run.before_settle")
    ended = await RunStore(connection).settle(run, following.phase, following.reason, following.message)
    if ended:
        data = {"run": str(run.id), "pipeline": run.pipeline, "phase": following.phase, "message": following.message}
        await events.emit(connection, run.project, f"run.{following.phase}", str(run.id), data)
    return ended


async def sweep(engine: AsyncEngine) -> int:
    """Runs that stand still although they could go on, whatever the reason: let them. Says how many."""
    async with engine.begin() as connection:
        stuck = await RunStore(connection).stuck(limit=OLD)
        for run in stuck:
            await go_on(connection, run)
    return len(stuck)


async def _drop(connection: AsyncConnection, run: Run) -> None:
    await StepStore(connection).delete_all(run)
    await RunStore(connection).delete(run)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two definitions say the same in the same order; 1 and true are not the same."""
    return repr(one) == repr(other)
