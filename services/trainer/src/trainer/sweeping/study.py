"""What the next trial's parameters are. A function of the sweep's own rows: nothing of a study outlives a question.

Optuna is imported when it is first asked, and only here.
"""

import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trainer.domain import spaces
from trainer.domain.spaces import Choice, Real, Space, Values, Whole
from trainer.domain.sweeps import Method, SweepSpec, Trial, TrialPhase

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

ENOUGH = 4
"""Trials that ran to their end, before anything can be said of what matters."""

_NOBODY, _NEVER = uuid.UUID(int=0), datetime.fromtimestamp(0, UTC)


def suggest(spec: SweepSpec, trials: Sequence[Trial], number: int) -> dict[str, Any]:
    """The parameters of the trial of that number, after the trials that there are."""
    match spec.algorithm.method:
        case Method.GRID:
            return spaces.point(spec.space, number)
        case Method.RANDOM:
            return spaces.sample(spec.space, spec.algorithm.seed, number)
        case Method.TPE if number < spec.algorithm.startup:
            return spaces.sample(spec.space, spec.algorithm.seed, number)
        case Method.TPE:
            asked = _study(spec, trials, number).ask(_distributions(spec.space))
            return {name: _chosen(values, asked.params[name]) for name, values in spec.space.items()}


def importance(spec: SweepSpec, trials: Sequence[Trial]) -> dict[str, float]:
    """How much of the trials' differences each parameter explains, in shares of 1; empty while too little is known."""
    told = [trial for trial in trials if trial.phase is TrialPhase.SUCCEEDED]
    if len(told) < ENOUGH or len({trial.value for trial in told}) < 2:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # noqa: PLC0415 - takes 0.3 s

    found = get_param_importances(_study(spec, told, 0), evaluator=PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in found.items()}


def _study(spec: SweepSpec, trials: Sequence[Trial], number: int) -> "Study":
    import optuna  # noqa: PLC0415 - takes 0.3 s

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    algorithm, distributions = spec.algorithm, _distributions(spec.space)
    # Another seed for each trial: with the same one, trials that are asked for at once would be the same.
    seed = random.Random(f"{algorithm.seed}:{number}").getrandbits(32)  # noqa: S311 - no secret
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=algorithm.startup, constant_liar=True)
    study = optuna.create_study(direction=spec.objective.direction.value, sampler=sampler)
    states = {
        TrialPhase.RUNNING: optuna.trial.TrialState.RUNNING,
        TrialPhase.SUCCEEDED: optuna.trial.TrialState.COMPLETE,
        TrialPhase.PRUNED: optuna.trial.TrialState.PRUNED,
        TrialPhase.FAILED: optuna.trial.TrialState.FAIL,
        TrialPhase.CANCELLED: optuna.trial.TrialState.FAIL,
    }
    study.add_trials(
        [
            optuna.trial.create_trial(
                state=states[trial.phase],
                value=trial.value if trial.phase is TrialPhase.SUCCEEDED else None,
                params={name: _told(values, trial.parameters[name]) for name, values in spec.space.items()},
                distributions=distributions,
                intermediate_values=_seen(trial),
            )
            for trial in trials
        ]
    )
    return study


def _seen(trial: Trial) -> dict[int, float]:
    return {} if trial.value is None else {trial.step or 0: trial.value}


def _distributions(space: Space) -> dict[str, "BaseDistribution"]:
    from optuna.distributions import (  # noqa: PLC0415 - takes 0.3 s
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    def of(values: Values) -> "BaseDistribution":
        match values:
            case Whole():
                return IntDistribution(values.low, spaces.highest(values), log=values.log, step=values.step)
            case Real():
                return FloatDistribution(values.low, spaces.highest(values), log=values.log, step=values.step)
            case Choice():  # by their places: what a choice is need not be hashable
                return CategoricalDistribution(range(len(values.choices)))

    return {name: of(values) for name, values in space.items()}


def _told(values: Values, value: Any) -> Any:
    if isinstance(values, Choice):
        return [spaces.key_of(choice) for choice in values.choices].index(spaces.key_of(value))
    return value


def _chosen(values: Values, value: Any) -> Any:
    return values.choices[value] if isinstance(values, Choice) else value


def parameters_of(spec: SweepSpec, trials: Sequence[Trial], numbers: Sequence[int]) -> Mapping[int, dict[str, Any]]:
    """Of several trials that are begun at once; each is asked for with those before it under way."""
    known = list(trials)
    found: dict[int, dict[str, Any]] = {}
    for number in numbers:
        found[number] = suggest(spec, known, number)
        known.append(Trial(number=number, job_id=_NOBODY, parameters=found[number], created_at=_NEVER))
    return found
