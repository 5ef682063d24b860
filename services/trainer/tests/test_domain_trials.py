"""What is to be done next about a sweep, and which trials are worth going on with."""

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from makers import NOW, spec_of
from sweeps_at_work import ASKED, sweep_spec_of

from kit.ids import uuid7
from trainer.domain import searching, spaces
from trainer.domain.bundles import BundleSpec
from trainer.domain.jobs import JobSpec, Phase
from trainer.domain.pruning import Pruning, Reached, goes_on
from trainer.domain.resources import Resources
from trainer.domain.searching import SweepInvalid
from trainer.domain.spaces import Choice, Real, Whole
from trainer.domain.sweeps import (
    Algorithm,
    Budget,
    Cause,
    Direction,
    Method,
    Objective,
    Sweep,
    SweepPhase,
    SweepSpec,
    Trial,
    TrialPhase,
    best_of,
    cores_of,
    with_parameters,
)
from trainer.domain.trials import MOST, Decision, Seen, SweepSight, event_of, next_decision

BUNDLE = BundleSpec(bundle="sha256:" + "b" * 64, entrypoint="train.py", parameters={"lr": 1, "deep": {"a": 1}})


def sweep_of(**given: Any) -> Sweep:
    spec = {name: given.pop(name) for name in list(given) if name in SweepSpec.__dataclass_fields__}
    values = {"id": uuid7(), "project": "blue", "subject": "ada", "asked": ASKED, "created_at": NOW}
    return Sweep(spec=sweep_spec_of(**spec), **values | given)


def trial_of(number: int, phase: TrialPhase = TrialPhase.SUCCEEDED, value: float | None = None, **given: Any) -> Trial:
    values = {"job_id": uuid7(), "parameters": {"max_depth": 1}, "created_at": NOW, "finished_at": NOW}
    return Trial(number=number, phase=phase, value=value, **values | given)


def look(sweep: Sweep, *trials: Trial, jobs: dict[int, Seen] | None = None, later: float = 0) -> Decision:
    return next_decision(SweepSight(sweep, trials, jobs or {}, NOW + timedelta(seconds=later)))


RUNNING = Seen(Phase.RUNNING)


def running(number: int, **given: Any) -> Trial:
    return trial_of(number, TrialPhase.RUNNING, finished_at=None, **given)


def test_a_sweep_that_has_ended_is_left_alone() -> None:
    assert look(sweep_of(phase=SweepPhase.FAILED)) == Decision(due_in=None)


def test_as_many_trials_are_begun_as_may_run_at_one_time() -> None:
    assert look(sweep_of(parallelism=3)).begin == (0, 1, 2)
    assert look(sweep_of(parallelism=3), trial_of(0, value=1.0), running(1), jobs={1: RUNNING}).begin == (2, 3)
    assert look(sweep_of(parallelism=9, budget=Budget(4)), running(0), jobs={0: RUNNING}).begin == (1, 2, 3)


def test_a_look_stays_short_and_the_rest_comes_at_once() -> None:
    decision = look(sweep_of(parallelism=64, budget=Budget(1000)))
    assert (len(decision.begin), decision.due_in) == (MOST, timedelta(0))


def test_a_grid_has_no_more_trials_than_points() -> None:
    space = {"max_depth": Whole(1, 3)}
    sweep = sweep_of(parallelism=9, budget=Budget(100), algorithm=Algorithm(Method.GRID), space=space)
    assert look(sweep).begin == (0, 1, 2)


@pytest.mark.parametrize(
    ("seen", "phase", "value"),
    [
        (Seen(Phase.SUCCEEDED, {"roc_auc": 0.7}), TrialPhase.SUCCEEDED, 0.7),
        (Seen(Phase.SUCCEEDED, {"roc_auc": 0.7}, last=Reached(9, 0.6)), TrialPhase.SUCCEEDED, 0.7),
        (Seen(Phase.SUCCEEDED, {"f1": 0.7}, last=Reached(9, 0.6)), TrialPhase.SUCCEEDED, 0.6),
        (Seen(Phase.SUCCEEDED), TrialPhase.FAILED, None),
        (Seen(Phase.FAILED, message="No."), TrialPhase.FAILED, None),
        (Seen(Phase.CANCELLED), TrialPhase.CANCELLED, None),
        (None, TrialPhase.FAILED, None),
    ],
)
def test_a_trial_ends_as_its_job_does(seen: Seen | None, phase: TrialPhase, value: float | None) -> None:
    decision = look(sweep_of(), running(0), jobs={} if seen is None else {0: seen})
    [told] = decision.changed
    assert (told.phase, told.value, told.finished_at) == (phase, value, NOW)
    assert decision.begin == (1,)


def test_the_best_is_the_first_of_those_that_are_as_good_and_ran_to_their_end() -> None:
    trials = [
        trial_of(0, value=0.5),
        trial_of(1, TrialPhase.PRUNED, 0.1),
        trial_of(2, value=0.9),
        trial_of(3, value=0.9),
        trial_of(4, TrialPhase.FAILED),
    ]
    highest, lowest = Objective("x", Direction.MAXIMIZE), Objective("x", Direction.MINIMIZE)
    assert best_of(trials, highest) == trials[2]
    assert best_of(trials, lowest) == trials[0]
    assert best_of(trials[1:2], lowest) is None


def test_a_sweep_with_a_model_to_register_passes_its_point_of_no_return_first() -> None:
    sweep = sweep_of(model="delays", budget=Budget(1))
    done = trial_of(0, value=0.5)
    first = look(sweep, done)
    assert first.commit is not None
    assert (first.settle, first.register, first.due_in) == (None, None, timedelta(0))
    second = look(replace(sweep, why=first.commit), done)
    assert second.register == done
    assert second.settle is not None
    assert second.settle[0] is SweepPhase.SUCCEEDED


def test_a_sweep_without_a_best_registers_nothing() -> None:
    decision = look(sweep_of(model="delays", budget=Budget(1)), trial_of(0, TrialPhase.PRUNED, 0.1))
    assert decision.settle is not None
    assert (decision.settle[0], decision.settle[1].cause) == (SweepPhase.FAILED, Cause.NO_TRIAL)


def test_failures_count_in_a_row_only() -> None:
    bad = [trial_of(number, TrialPhase.FAILED, message="No.") for number in range(4)]
    assert look(sweep_of(budget=Budget(9)), *bad).begin == (4,)
    over = look(sweep_of(budget=Budget(9), failures=4), *bad)
    assert over.settle is not None
    assert over.settle[1].cause is Cause.FAILING
    good = trial_of(4, value=1.0, finished_at=NOW - timedelta(seconds=1))
    assert look(sweep_of(budget=Budget(9), failures=4), *bad[:3], replace(bad[3], finished_at=None), good).begin == ()
    later = replace(good, finished_at=NOW + timedelta(seconds=1))
    assert look(sweep_of(budget=Budget(9), failures=4), *bad, later).begin == (5,)


def test_when_time_is_over_what_runs_is_stopped_and_waited_for() -> None:
    sweep = sweep_of(budget=Budget(9, time=timedelta(seconds=10)))
    live, done = running(1), trial_of(0, value=0.5)
    assert look(sweep, done, live, jobs={1: RUNNING}, later=9).stop == ()
    assert look(sweep, done, live, jobs={1: RUNNING}, later=10).stop == (live,)
    over = look(sweep, done, replace(live, phase=TrialPhase.CANCELLED), later=20)
    assert over.settle is not None
    assert over.settle[1].cause is Cause.TIME


def test_core_hours_are_those_of_ended_trials_and_of_those_that_run() -> None:
    sweep = sweep_of(budget=Budget(9, core_hours=1.0))
    done, live = trial_of(0, value=0.5, seconds=1800), running(1)
    assert look(sweep, done, live, jobs={1: Seen(Phase.RUNNING, seconds=1799)}).stop == ()
    assert look(sweep, done, live, jobs={1: Seen(Phase.RUNNING, seconds=1800)}).stop == (live,)


def test_all_trials_done_is_said_even_when_time_is_over_too() -> None:
    over = look(sweep_of(budget=Budget(1, time=timedelta(seconds=10))), trial_of(0, value=0.5), later=20)
    assert over.settle is not None
    assert over.settle[1].cause is Cause.TRIALS


def test_a_pruned_trial_s_job_is_stopped_and_its_place_given_away_in_the_same_look() -> None:
    sweep = sweep_of(pruning=Pruning(1, 2), parallelism=2, budget=Budget(9))
    good, bad = running(0, rungs=(0.9,)), running(1)
    jobs = {0: RUNNING, 1: Seen(Phase.RUNNING, reached=(Reached(1, 0.3), Reached(2, 0.4)), seconds=7)}
    decision = look(sweep, good, bad, jobs=jobs)
    [pruned] = decision.changed
    assert (pruned.phase, pruned.value, pruned.step, pruned.rungs) == (TrialPhase.PRUNED, 0.3, 1, (0.3,))
    assert pruned.seconds == 7
    assert decision.stop == (pruned,)
    assert decision.begin == (2,)
    assert decision.due_in == timedelta(seconds=1)


def test_a_trial_that_passes_a_rung_remembers_its_worth_there() -> None:
    sweep = sweep_of(pruning=Pruning(1, 2))
    decision = look(sweep, running(0), jobs={0: Seen(Phase.RUNNING, reached=(Reached(1, 0.3), Reached(2, 0.4)))})
    [passed] = decision.changed
    assert (passed.phase, passed.rungs, passed.finished_at) == (TrialPhase.RUNNING, (0.3, 0.4), None)
    assert decision.stop == ()


@pytest.mark.parametrize(
    ("value", "others", "goes"),
    [
        (0.1, [], True),
        (0.1, [0.2], False),
        (0.3, [0.2], True),
        (0.3, [0.1, 0.2, 0.4, 0.5, 0.6], False),
        (0.5, [0.1, 0.2, 0.3, 0.4, 0.6], True),
    ],
)
def test_one_of_three_goes_on(value: float, others: list[float], goes: bool) -> None:
    assert goes_on(value, others, 3, maximize=True) is goes
    assert goes_on(-value, [-each for each in others], 3, maximize=False) is goes


EPOCHS = 81


def learning(number: int) -> list[float]:
    """The accuracies of one trial by its epochs: what it comes to in the end, how fast, and noise."""
    chance = random.Random(number)
    ends, speed = chance.uniform(0.5, 0.95), chance.uniform(4, 15)
    return [ends * (1 - 2 ** (-epoch / speed)) + chance.gauss(0, 0.005) for epoch in range(1, EPOCHS + 1)]


def test_pruning_finds_what_the_whole_grid_finds_with_a_third_of_the_work() -> None:
    """81 trials, 4 at one time, each an epoch further between two looks."""
    sweep = sweep_of(parallelism=4, budget=Budget(81), pruning=Pruning(1, 3))
    trials: dict[int, Trial] = {}
    epochs: dict[int, int] = {}
    rule = sweep.spec.pruning
    assert rule is not None
    while True:
        jobs = {}
        for trial in trials.values():
            if trial.phase is TrialPhase.RUNNING:
                done = epochs[trial.number] = epochs[trial.number] + 1
                curve = learning(trial.number)
                steps = [step for rung in range(len(trial.rungs), 5) if (step := rule.step_of(rung)) <= done]
                jobs[trial.number] = Seen(
                    Phase.SUCCEEDED if done == EPOCHS else Phase.RUNNING,
                    {"roc_auc": curve[-1]} if done == EPOCHS else {},
                    reached=tuple(Reached(step, curve[step - 1]) for step in steps),
                )
        decision = next_decision(SweepSight(sweep, list(trials.values()), jobs, NOW))
        trials |= {trial.number: trial for trial in decision.changed}
        trials |= {number: running(number) for number in decision.begin}
        epochs |= dict.fromkeys(decision.begin, 0)
        if decision.settle:
            break
    best = best_of(list(trials.values()), sweep.spec.objective)
    assert best is not None
    assert best.value is not None
    assert best.value >= 0.99 * max(learning(number)[-1] for number in range(81))
    assert sum(epochs.values()) <= 0.3 * 81 * EPOCHS


def test_parameters_are_laid_over_those_of_the_job() -> None:
    trained = with_parameters(spec_of(), {"max_depth": 9, "criterion": "gini"})
    assert trained.training is not None
    assert trained.training.estimator.parameters == {"max_depth": 9, "criterion": "gini"}
    bundled = with_parameters(JobSpec(bundle=BUNDLE), {"lr": 0.5})
    assert bundled.bundle is not None
    assert bundled.bundle.parameters == {"lr": 0.5, "deep": {"a": 1}}
    assert BUNDLE.parameters["lr"] == 1


def test_the_cores_of_a_job_are_those_of_all_its_nodes() -> None:
    bundle = replace(BUNDLE, least=2, most=3)
    assert cores_of(JobSpec(bundle=bundle, resources=Resources(cpu_millis=1500))) == 4.5
    assert cores_of(spec_of()) == 1


def test_the_event_says_what_came_of_a_sweep() -> None:
    sweep, best = sweep_of(), trial_of(0, value=0.5)
    model = {"name": "delays", "version": 1}
    over = look(sweep_of(budget=Budget(1)), best)
    assert over.settle is not None
    said = event_of(sweep, *over.settle, [best, trial_of(1, TrialPhase.FAILED)], model)
    assert said["best"] == {"number": 0, "job": str(best.job_id), "value": 0.5, "parameters": {"max_depth": 1}}
    assert (said["trials"]["succeeded"], said["trials"]["failed"], said["model"]) == (1, 1, model)
    assert event_of(sweep, *over.settle, [], None)["best"] is None


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"budget": Budget(1, time=timedelta(days=8))}, "#/budget/time"),
        ({"algorithm": Algorithm(Method.GRID)}, "#/space"),
        ({"model": "UPPER"}, "#/job/register/model"),
        ({"space": {"max_depth": Whole(3, 1)}}, "#/space/max_depth"),
    ],
)
def test_a_sweep_that_cannot_work_is_named_with_its_place(given: dict[str, Any], pointer: str) -> None:
    with pytest.raises(SweepInvalid) as caught:
        searching.check(sweep_spec_of(**given))
    assert [place["pointer"] for place in caught.value.errors] == [pointer]


def test_what_a_job_would_refuse_is_refused_where_it_stands_in_the_sweep() -> None:
    wrong = {"max_depth": Whole(0, 3), "criterion": Choice(("gini",))}
    with pytest.raises(Exception, match="parameters") as caught:
        searching.check(sweep_spec_of(space=wrong))
    assert [place["pointer"] for place in caught.value.errors] == ["#/space/max_depth"]  # type: ignore[attr-defined]
    late = replace(spec_of(), deadline=timedelta(0), model=None)
    with pytest.raises(Exception, match="cannot work") as caught:
        searching.check(sweep_spec_of(job=late))
    assert [place["pointer"] for place in caught.value.errors] == ["#/job/deadline"]  # type: ignore[attr-defined]


def test_a_sweep_that_can_work_is_taken() -> None:
    searching.check(sweep_spec_of())
    searching.check(sweep_spec_of(job=JobSpec(bundle=BUNDLE), space={"lr": Real(0.1, 1.0)}, model="delays"))
    assert spaces.size_of({"a": Whole(1, 2)}) == 2
