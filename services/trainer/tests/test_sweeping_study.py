"""What is asked of Optuna: parameters that follow from the sweep's own rows alone."""

import math
import subprocess
import sys
from typing import Any

import pytest
from makers import NOW, some_id
from sweeps_at_work import hill, sweep_spec_of

from trainer.domain.spaces import Choice, Real, Whole
from trainer.domain.sweeps import Algorithm, Budget, Direction, Method, Objective, SweepSpec, Trial, TrialPhase
from trainer.sweeping import study

EVERY_KIND = {
    "a": Whole(1, 10, step=4),
    "b": Real(0.0, 1.0, step=0.3),
    "c": Choice(("x", None, True, 1, [64, 64])),
    "d": Real(0.001, 1.0, log=True),
    "e": Whole(1, 1000, log=True),
}


def told(spec: SweepSpec, many: int, phase: TrialPhase = TrialPhase.SUCCEEDED) -> list[Trial]:
    """A sweep's first trials, one after the other, all worth what their parameters are."""
    trials: list[Trial] = []
    for number in range(many):
        parameters = study.suggest(spec, trials, number)
        value = hill(parameters) if "max_depth" in parameters else float(number)
        trials.append(
            Trial(number=number, job_id=some_id(), parameters=parameters, phase=phase, value=value, created_at=NOW)
        )
    return trials


def test_the_next_parameters_follow_from_the_trials_and_nothing_else() -> None:
    spec = sweep_spec_of(algorithm=Algorithm(startup=4))
    trials = told(spec, 15)
    assert [study.suggest(spec, trials[:number], number) for number in range(15)] == [
        trial.parameters for trial in trials
    ]
    other = sweep_spec_of(algorithm=Algorithm(startup=4, seed=1))
    assert told(other, 6) != trials[:6]


def test_every_kind_of_values_comes_back_as_it_was_asked_for() -> None:
    spec = sweep_spec_of(space=EVERY_KIND, algorithm=Algorithm(startup=2))
    for trial in told(spec, 30):
        chosen = trial.parameters
        assert chosen["a"] in (1, 5, 9)
        assert round(chosen["b"], 6) in (0, 0.3, 0.6, 0.9)
        assert any(chosen["c"] is each or chosen["c"] == [64, 64] for each in ("x", None, True, 1))
        assert 0.001 <= chosen["d"] <= 1
        assert isinstance(chosen["e"], int)
        assert list(chosen) == list(EVERY_KIND)


def test_tpe_finds_more_than_chance_does() -> None:
    def best(method: Method, seed: int) -> float:
        spec = sweep_spec_of(algorithm=Algorithm(method, seed=seed), budget=Budget(40))
        return max(trial.value or 0 for trial in told(spec, 40))

    seeds = range(5)
    assert sum(best(Method.TPE, seed) for seed in seeds) > sum(best(Method.RANDOM, seed) for seed in seeds)


def test_trials_that_are_begun_at_once_are_not_the_same() -> None:
    spec = sweep_spec_of(algorithm=Algorithm(startup=4))
    trials = told(spec, 12)
    chosen = study.parameters_of(spec, trials, [12, 13, 14, 15])
    assert len({str(each) for each in chosen.values()}) == 4
    assert study.parameters_of(spec, trials, [12, 13, 14, 15]) == chosen


@pytest.mark.parametrize("phase", list(TrialPhase))
def test_a_study_is_made_of_trials_in_every_phase(phase: TrialPhase) -> None:
    spec = sweep_spec_of(algorithm=Algorithm(startup=2), objective=Objective("loss", Direction.MINIMIZE))
    assert set(study.suggest(spec, told(spec, 5, phase), 5)) == set(spec.space)


def test_importance_tells_what_matters_from_what_does_not() -> None:
    space = {"max_depth": Whole(1, 10), "min_impurity_decrease": Real(0.001, 0.1, log=True), "noise": Real(0.0, 1.0)}
    spec = sweep_spec_of(space=space, algorithm=Algorithm(Method.RANDOM))
    found = study.importance(spec, told(spec, 60))
    assert sum(found.values()) == pytest.approx(1)
    assert found["noise"] < min(found["max_depth"], found["min_impurity_decrease"])


@pytest.mark.parametrize("many", [0, 3])
def test_importance_of_too_few_trials_is_not_guessed(many: int) -> None:
    spec = sweep_spec_of()
    assert study.importance(spec, told(spec, many)) == {}


def test_importance_of_trials_that_are_all_alike_is_none() -> None:
    spec = sweep_spec_of()
    alike = [
        Trial(
            number=number,
            job_id=some_id(),
            parameters=spec_point(),
            phase=TrialPhase.SUCCEEDED,
            value=1.0,
            created_at=NOW,
        )
        for number in range(9)
    ]
    assert study.importance(spec, alike) == {}


def spec_point() -> dict[str, Any]:
    return {"max_depth": 3, "min_impurity_decrease": math.sqrt(0.0001)}


def test_importance_of_parameters_that_never_changed_is_no_error() -> None:
    spec = sweep_spec_of()
    same = [
        Trial(
            number=number,
            job_id=some_id(),
            parameters=spec_point(),
            phase=TrialPhase.SUCCEEDED,
            value=number,
            created_at=NOW,
        )
        for number in range(9)
    ]
    assert set(study.importance(spec, same)) <= set(spec.space)


def test_a_process_of_the_trainer_does_not_load_optuna_until_a_study_is_asked() -> None:
    script = "import sys, trainer.app; print([name for name in ('optuna', 'sklearn', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
