"""What a reconciler does with sweeps: begin trials, tell how they ended, and end."""

from jobs_at_work import told
from sqlalchemy.ext.asyncio import AsyncEngine
from sweeps_at_work import add_sweep, hill, run_all

from trainer.domain.sweeps import Algorithm, Budget, Method


async def test_a_sweep_runs_its_trials_and_says_which_was_best(engine: AsyncEngine) -> None:
    sweep = await add_sweep(engine, parallelism=3, budget=Budget(20), algorithm=Algorithm(startup=5))
    ended, trials = await run_all(engine, sweep, hill)
    assert (ended.phase, ended.why.cause) == ("succeeded", "trials-done")
    assert [trial.number for trial in trials] == list(range(20))
    assert {trial.phase for trial in trials} == {"succeeded"}
    best = max(trials, key=lambda trial: trial.value or 0)
    assert ended.summary["best"]["number"] == best.number
    assert set(ended.summary["importance"]) == {"max_depth", "min_impurity_decrease"}
    [event] = [event for event in await told(engine) if event.subject == str(sweep.id)]
    assert (event.kind, event.data["best"]["value"]) == ("sweep.succeeded", best.value)
