"""What a reconciler does with sweeps: begin trials, tell how they ended, and end."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa
from jobs_at_work import begin, hand_over, look, told, turn
from neighbours import Neighbours
from requests_made import pin
from sqlalchemy.ext.asyncio import AsyncEngine
from sweeps_at_work import add_sweep, end_all, end_job, hill, look_at, report, run_all, turn_sweeps

from kit.blobs import BlobStore
from trainer.domain.jobs import Job, Phase, Reason, Why
from trainer.domain.pruning import Pruning
from trainer.domain.spaces import Choice, Whole
from trainer.domain.sweeps import Algorithm, Budget, Direction, Method, Objective, Sweep, Trial
from trainer.reconcile import Reconciler
from trainer.store import tables
from trainer.store.jobs import JobStore
from trainer.store.sweeps import SweepStore
from trainer.sweeping.reconcile import Sweeping

GRID = {"max_depth": Whole(1, 10), "min_impurity_decrease": Choice((0.001, 0.1))}
BROKEN = Why(Reason.USER_ERROR, "The target has one class.")


async def job_of(engine: AsyncEngine, trial: Trial) -> Job:
    async with engine.begin() as connection:
        found = await JobStore(connection).find("blue", trial.job_id)
    assert found is not None
    return found


async def phases(engine: AsyncEngine, sweep: Sweep) -> list[str]:
    return [str(trial.phase) for trial in (await look_at(engine, sweep))[1]]


@pytest.mark.parametrize("method", list(Method))
async def test_a_sweep_runs_its_trials_and_says_which_was_best(
    engine: AsyncEngine, sweeping: Sweeping, method: Method
) -> None:
    given = {"space": GRID} if method is Method.GRID else {}
    sweep = await add_sweep(engine, parallelism=3, budget=Budget(20), algorithm=Algorithm(method, startup=5), **given)
    ended, trials = await run_all(engine, sweeping, sweep, hill)
    assert (ended.phase, ended.why.cause) == ("succeeded", "trials-done")
    assert [trial.number for trial in trials] == list(range(20))
    assert {trial.phase for trial in trials} == {"succeeded"}
    best = max(trials, key=lambda trial: trial.value or 0)
    assert ended.summary["best"]["number"] == best.number
    assert ended.summary["trials"] == dict.fromkeys(("running", "pruned", "failed", "cancelled"), 0) | {"succeeded": 20}
    assert set(ended.summary["importance"]) == {"max_depth", "min_impurity_decrease"}
    [event] = [event for event in await told(engine) if event.subject == str(sweep.id)]
    assert (event.kind, event.data["best"]["value"]) == ("sweep.succeeded", best.value)


async def test_a_trial_is_the_job_with_other_parameters(engine: AsyncEngine, sweeping: Sweeping) -> None:
    sweep = await add_sweep(engine)
    await turn_sweeps(engine, sweeping)
    _, [trial] = await look_at(engine, sweep)
    job = await job_of(engine, trial)
    assert (job.subject, job.spec.model, job.spec.dataset) == ("ada", None, "flights@3")
    assert job.spec.training.estimator.parameters == dict(trial.parameters)
    assert set(trial.parameters) == {"max_depth", "min_impurity_decrease"}


async def test_a_trial_that_ends_makes_room_for_the_next_at_once(engine: AsyncEngine, sweeping: Sweeping) -> None:
    sweep = await add_sweep(engine, parallelism=2, budget=Budget(4))
    await turn_sweeps(engine, sweeping)
    _, [first, _] = await look_at(engine, sweep)
    await end_job(engine, first.job_id, Phase.SUCCEEDED, metrics={"roc_auc": 0.7})
    await turn_sweeps(engine, sweeping)
    assert await phases(engine, sweep) == ["succeeded", "running", "running"]


async def test_a_trial_that_failed_is_told_and_the_sweep_goes_on(engine: AsyncEngine, sweeping: Sweeping) -> None:
    sweep = await add_sweep(engine, budget=Budget(2))
    await turn_sweeps(engine, sweeping)
    _, [first] = await look_at(engine, sweep)
    await end_job(engine, first.job_id, Phase.FAILED, why=BROKEN)
    ended, trials = await run_all(engine, sweeping, sweep, hill)
    assert [(trial.phase, trial.message) for trial in trials] == [("failed", BROKEN.message), ("succeeded", "")]
    assert ended.phase == "succeeded"


async def test_a_job_that_does_not_say_what_is_wanted_is_a_failed_trial(
    engine: AsyncEngine, sweeping: Sweeping
) -> None:
    sweep = await add_sweep(engine, objective=Objective("f1", Direction.MAXIMIZE), budget=Budget(1))
    ended, [trial] = await run_all(engine, sweeping, sweep, hill)
    assert (trial.phase, trial.message) == (
        "failed",
        "The job did not report the metric 'f1'; it reported roc_auc.",
    )
    assert (ended.phase, ended.why.cause) == ("failed", "no-trial-succeeded")


async def test_a_sweep_whose_trials_all_fail_ends_before_its_budget(engine: AsyncEngine, sweeping: Sweeping) -> None:
    sweep = await add_sweep(engine, budget=Budget(100), failures=3, parallelism=2)
    for _ in range(4):
        await turn_sweeps(engine, sweeping)
        for trial in (await look_at(engine, sweep))[1]:
            if trial.phase == "running":
                await end_job(engine, trial.job_id, Phase.FAILED, why=BROKEN)
    ended, trials = await look_at(engine, sweep)
    assert (ended.phase, ended.why.cause) == ("failed", "trials-failing")
    assert BROKEN.message in ended.why.message
    assert len(trials) == 4


async def test_a_trial_whose_job_was_deleted_is_told_as_failed(engine: AsyncEngine, sweeping: Sweeping) -> None:
    sweep = await add_sweep(engine)
    await turn_sweeps(engine, sweeping)
    async with engine.begin() as connection:
        await connection.execute(sa.delete(tables.jobs))
        await connection.execute(sa.update(tables.sweeps).values(due_at=sa.func.now()))
    await turn_sweeps(engine, sweeping)
    assert await phases(engine, sweep) == ["failed", "running"]


async def test_a_cancelled_sweep_ends_when_its_jobs_have_ended(engine: AsyncEngine, sweeping: Sweeping) -> None:
    sweep = await add_sweep(engine, parallelism=2)
    await turn_sweeps(engine, sweeping)
    async with engine.begin() as connection:
        await SweepStore(connection).request_cancel("blue", sweep.id)
    await turn_sweeps(engine, sweeping)
    found, trials = await look_at(engine, sweep)
    assert found.phase == "running"
    assert [(await job_of(engine, trial)).cancel_requested for trial in trials] == [True, True]
    await end_job(engine, trials[0].job_id, Phase.CANCELLED)
    await end_job(engine, trials[1].job_id, Phase.SUCCEEDED, metrics={"roc_auc": 0.9})  # it was faster
    await turn_sweeps(engine, sweeping)
    found, trials = await look_at(engine, sweep)
    assert (found.phase, found.why.cause) == ("cancelled", "cancelled")
    assert [trial.phase for trial in trials] == ["cancelled", "succeeded"]
    assert found.summary["best"]["number"] == 1
    assert [event.kind for event in await told(engine)] == ["sweep.cancelled"]


@pytest.mark.parametrize("budget", [Budget(100, time=timedelta(minutes=10)), Budget(100, core_hours=0.5)])
async def test_what_is_spent_stops_the_trials_and_ends_the_sweep(
    engine: AsyncEngine, sweeping: Sweeping, budget: Budget
) -> None:
    sweep = await add_sweep(engine, parallelism=2, budget=budget)
    await turn_sweeps(engine, sweeping)
    _, [first, second] = await look_at(engine, sweep)
    await pin(engine, await job_of(engine, second))
    await end_job(engine, first.job_id, Phase.SUCCEEDED, metrics={"roc_auc": 0.7})
    async with engine.begin() as connection:
        values = {"job_id": second.job_id, "number": 1, "phase": "running", "started_at": AN_HOUR_AGO}
        await connection.execute(sa.insert(tables.attempts).values(project="blue", id=second.job_id, **values))
        await connection.execute(sa.update(tables.sweeps).values(created_at=AN_HOUR_AGO))
    await turn_sweeps(engine, sweeping)
    assert (await job_of(engine, second)).cancel_requested
    assert await phases(engine, sweep) == ["succeeded", "running"]
    await end_job(engine, second.job_id, Phase.CANCELLED)
    await turn_sweeps(engine, sweeping)
    ended, trials = await look_at(engine, sweep)
    assert (ended.phase, ended.why.cause) == ("succeeded", "time-spent" if budget.time else "core-hours-spent")
    assert trials[1].seconds == pytest.approx(3600, abs=60)
    assert ended.summary["core_hours"] == pytest.approx(1, abs=0.1)


AN_HOUR_AGO = sa.func.clock_timestamp() - timedelta(hours=1)


async def test_a_trial_that_is_worth_less_at_a_rung_is_pruned_and_frees_its_place_at_once(
    engine: AsyncEngine, sweeping: Sweeping
) -> None:
    sweep = await add_sweep(engine, parallelism=3, budget=Budget(5), pruning=Pruning(first=10, reduction=3))
    await turn_sweeps(engine, sweeping)
    _, [good, bad, young] = await look_at(engine, sweep)
    await report(engine, good, [(5, 0.1), (10, 0.8), (11, 0.2)])
    await report(engine, bad, [(12, 0.6)])
    await report(engine, young, [(9, 0.1)])
    await turn_sweeps(engine, sweeping)
    _, trials = await look_at(engine, sweep)
    assert [trial.phase for trial in trials] == ["running", "pruned", "running", "running"]
    assert [trial.rungs for trial in trials[:3]] == [(0.8,), (0.6,), ()]
    assert (trials[1].value, trials[1].step) == (0.6, 12)
    assert "Pruned at step 12" in trials[1].message
    assert (await job_of(engine, bad)).cancel_requested
    assert not (await job_of(engine, good)).cancel_requested
    await end_job(engine, bad.job_id, Phase.CANCELLED)
    ended, trials = await run_all(engine, sweeping, sweep, hill)
    assert (ended.phase, len(trials), trials[1].phase) == ("succeeded", 5, "pruned")


async def test_the_newest_report_counts_where_a_step_was_reported_again(
    engine: AsyncEngine, sweeping: Sweeping
) -> None:
    sweep = await add_sweep(engine, pruning=Pruning(first=1, reduction=2), objective=LOSS)
    await turn_sweeps(engine, sweeping)
    _, [trial] = await look_at(engine, sweep)
    await report(engine, trial, [(1, 5.0), (7, 3.0), (1, 4.0)], name="loss")
    await turn_sweeps(engine, sweeping)
    _, [trial] = await look_at(engine, sweep)
    assert trial.rungs == (4.0, 3.0, 3.0)  # at 1, and at 7 for both 2 and 4
    await end_job(engine, trial.job_id, Phase.SUCCEEDED, metrics={"roc_auc": 0.5})
    await turn_sweeps(engine, sweeping)
    _, [trial, _] = await look_at(engine, sweep)
    assert (trial.phase, trial.value, trial.step) == ("succeeded", 3.0, 7)  # what it reported last


LOSS = Objective("loss", Direction.MINIMIZE)


async def finish(
    engine: AsyncEngine, worker: Reconciler, store: BlobStore, sweeping: Sweeping, sweep: Sweep
) -> Sequence[Trial]:
    """The trials' jobs as they really are: with outputs, and ended by their own reconciler."""
    await turn_sweeps(engine, sweeping)
    while True:
        _, trials = await look_at(engine, sweep)
        live = [trial for trial in trials if trial.phase == "running"]
        if not live:
            return trials
        await turn(engine, worker)
        attempt = await begin(engine, await job_of(engine, live[0]))
        await hand_over(engine, store, attempt)
        await turn(engine, worker)
        await turn_sweeps(engine, sweeping, times=1)


async def test_the_best_trial_becomes_a_model_version(
    engine: AsyncEngine, worker: Reconciler, store: BlobStore, sweeping: Sweeping, world: Neighbours
) -> None:
    sweep = await add_sweep(engine, budget=Budget(2), model="delays", features=("hour", "carrier"))
    trials = await finish(engine, worker, store, sweeping, sweep)
    registering, _ = await look_at(engine, sweep)
    assert (registering.phase, registering.why.cause) == ("running", "registering")
    with pytest.raises(Exception, match="registering"):
        async with engine.begin() as connection:
            await SweepStore(connection).request_cancel("blue", sweep.id)
    await turn_sweeps(engine, sweeping)
    ended, _ = await look_at(engine, sweep)
    [version] = world.models["delays"]
    assert ended.phase == "succeeded"
    assert ended.model == {"name": "delays", "version": 1, "digest": version["digest"]}
    assert version["manifest"]["lineage"]["job"] == str(trials[0].job_id)
    event = (await told(engine))[-1]
    assert (event.kind, event.data["model"]) == ("sweep.succeeded", ended.model)


@pytest.mark.parametrize("status", [503, 422])
async def test_a_registry_that_is_away_is_asked_again_and_one_that_refuses_ends_the_sweep(
    engine: AsyncEngine, worker: Reconciler, store: BlobStore, sweeping: Sweeping, world: Neighbours, status: int
) -> None:
    sweep = await add_sweep(engine, budget=Budget(1), model="delays", features=("hour", "carrier"))
    await finish(engine, worker, store, sweeping, sweep)
    world.answers["PUT", "/versions"] = (status, {"code": "x", "detail": "Not now.", "status": status})
    await turn_sweeps(engine, sweeping)
    found, _ = await look_at(engine, sweep)
    if status == 503:
        assert (found.phase, found.why.cause) == ("running", "registering")
        world.answers.clear()
        async with engine.begin() as connection:
            await connection.execute(sa.update(tables.sweeps).values(due_at=sa.func.now()))
        await turn_sweeps(engine, sweeping)
        assert (await look_at(engine, sweep))[0].phase == "succeeded"
    else:
        assert (found.phase, found.why.cause) == ("failed", "registration-refused")
        assert "Not now." in found.why.message


async def test_a_best_job_that_was_deleted_cannot_be_registered(
    engine: AsyncEngine, sweeping: Sweeping, world: Neighbours
) -> None:
    sweep = await add_sweep(engine, budget=Budget(1), model="delays")
    await turn_sweeps(engine, sweeping)
    await end_all(engine, sweep, hill)
    await turn_sweeps(engine, sweeping, times=1)
    async with engine.begin() as connection:
        await connection.execute(sa.delete(tables.jobs))
    await turn_sweeps(engine, sweeping)
    ended, _ = await look_at(engine, sweep)
    assert (ended.phase, ended.why.cause, ended.model) == ("failed", "registration-refused", None)


async def test_the_end_of_an_ordinary_job_wakes_no_sweep(
    engine: AsyncEngine, worker: Reconciler, sweeping: Sweeping, world: Neighbours
) -> None:
    sweep = await add_sweep(engine, dataset="nothing@1")
    await turn_sweeps(engine, sweeping)
    before, [trial] = await look_at(engine, sweep)
    await turn(engine, worker)  # there is no such dataset
    assert (await look(engine, await job_of(engine, trial))).phase is Phase.FAILED
    woken, _ = await look_at(engine, sweep)
    assert woken.woken == before.woken + 1
    await turn_sweeps(engine, sweeping)
    assert (await phases(engine, sweep))[0] == "failed"
