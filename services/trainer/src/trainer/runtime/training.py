"""A job's work: read, fit, evaluate on the rows held out, write the model, make its twin."""

import logging
import os
import warnings
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit import children, errors
from models import formats, scoring, twin
from models.estimators import EstimatorKind, estimator_kind, steps_of
from models.examples import rows_of
from models.matrices import matrix_of
from models.preprocessing import kept, pipeline_of
from models.signature import MISSING_TIME, Arrays, Field, Prediction, Signature
from models.skops_models import SkopsModel
from models.verdicts import Verdict
from trainer.domain.attempts import SKOPS_FILE, AttemptJob, AttemptResult, Outcome
from trainer.runtime import environments, outputs, shards, targets
from trainer.runtime.mistakes import UserMistake
from trainer.runtime.reporting import Reporter
from trainer.runtime.shards import Split
from trainer.runtime.targets import Classes

MAX_COMPARED = 20_000  # held-out rows that the twin is asked about
MAX_STEPS = 1_000
EXAMPLES = 3
EXAMPLE_BYTES = 64 << 10
CURVES = ("train_score_", "validation_score_", "loss_curve_")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What is learned of what: rows of both splits that have a target, and the target in the estimator's form."""

    signature: Signature
    train: Split
    held_out: Split
    classes: Classes | None
    wanted: NDArray[Any]  # of the training rows
    truth: NDArray[Any]  # of the rows held out: indices of classes, or numbers


def run(job: AttemptJob, folder: Path, reporter: Reporter) -> AttemptResult:
    """Do the job; a UserMistake says what its author can put right."""
    reporter.stage("reading")
    task = _read(job, folder)
    reporter.stage("fitting")
    pipeline, parameters = _fitted(job, task)
    task = replace(task, signature=_answering(task.signature, pipeline))
    _report_curves(pipeline, reporter)
    content = formats.dumps(pipeline)
    (folder / SKOPS_FILE).write_bytes(content)
    # What is evaluated is what others will load, not what happens to be in memory.
    model = SkopsModel(content, task.signature)
    reporter.stage("evaluating")
    metrics = _metrics(model, task)
    for name, value in metrics.items():
        reporter.metric(name, value)
    reporter.stage("converting")
    verdict = _twin(job, folder, task)
    log.info("twin %s: %s", "kept" if verdict.kept else "not kept", verdict.reason)
    return AttemptResult(
        outcome=Outcome.SUCCEEDED,
        metrics=metrics,
        rows={"train": task.train.rows, "held_out": task.held_out.rows},
        model=outputs.model_of(
            folder,
            signature=task.signature.to_json(),
            twin=verdict.to_json(),
            parameters=parameters,
            input_example=rows_of(task.signature, task.held_out.arrays, EXAMPLES, max_bytes=EXAMPLE_BYTES),
        ),
    )


def _read(job: AttemptJob, folder: Path) -> Task:
    spec = job.spec
    features = shards.features_of(spec, shards.types_of(folder, job.shards))
    train, held_out = (
        _with_target(shards.read_split(folder, job.shards, split, features=features, spec=spec), spec.target, split)
        for split in ("train", "held_out")
    )
    columns = tuple(
        Field(name, kind, nullable=_has_gaps(train.arrays[name]) or _has_gaps(held_out.arrays[name]))
        for name, kind in features.items()
    )
    for column in columns:
        if _all_gaps(train.arrays[column.name]):
            hint = "Leave it out of the features."
            raise UserMistake(f"The column {column.name!r} is null in every training row.", hint)
    log.info("%d training rows, %d held out, %d columns", train.rows, held_out.rows, len(columns))
    if spec.task == "regression":
        numbers = targets.numbers_of(train.target, spec.target), targets.numbers_of(held_out.target, spec.target)
        return Task(Signature.of(columns, spec.task), train, held_out, None, *numbers)
    wanted = targets.labels_of(train.target, spec.target)
    classes = targets.classes_of(wanted, train.target, spec.target)
    truth = classes.indices_of(targets.labels_of(held_out.target, spec.target))
    known = truth >= 0
    if not known.any():
        raise UserMistake("No class of the rows held out was seen in training.", "Look at the split of the dataset.")
    if not known.all():
        log.warning("%d rows held out have a class that training did not see; they are left out", (~known).sum())
        held_out, truth = held_out.where(known), truth[known]
    signature = Signature.of(columns, spec.task, classes.values)
    return Task(signature, train, held_out, classes, wanted, truth)


def _with_target(split: Split, target: str, name: str) -> Split:
    mask = targets.present(split.target, target)
    if mask.all():
        return split
    log.warning("%d of %d %s rows have no target; they are left out", (~mask).sum(), len(mask), name)
    return split.where(mask)


def _has_gaps(array: NDArray[Any]) -> bool:
    return bool(_gaps(array).any())


def _all_gaps(array: NDArray[Any]) -> bool:
    return bool(_gaps(array).all())


def _gaps(array: NDArray[Any]) -> NDArray[np.bool_]:
    gaps: NDArray[np.bool_]
    if array.dtype == object:
        gaps = array == ""
    else:
        gaps = array == MISSING_TIME if array.dtype == np.int64 else np.isnan(array)
    return gaps


def _fitted(job: AttemptJob, task: Task) -> tuple[Any, dict[str, Any]]:
    spec = job.spec
    chosen = spec.preprocessing
    try:
        kind = estimator_kind(spec.estimator.path, spec.estimator.parameters, spec.task)
        steps = steps_of(kind, chosen.numeric, chosen.categories, chosen.add_indicator)
        pipeline = pipeline_of(task.signature.inputs, kind, spec.estimator.parameters, steps=steps, seed=spec.seed)
    except errors.Invalid as error:
        places = "; ".join(f"{place['pointer']} {place['detail']}" for place in error.errors)
        raise UserMistake(error.detail, places) from error
    _require_fitting(kind, task)
    try:
        pipeline = kept(pipeline.fit(matrix_of(task.signature, task.train.arrays), task.wanted))
    except (ValueError, AttributeError, np.linalg.LinAlgError) as error:
        # An estimator made of others says with an AttributeError what one of them cannot do.
        hint = "The estimator's parameters and the data do not fit together."
        raise UserMistake(f"The estimator cannot be fitted: {error}", hint) from error
    used = {"numeric": steps.numeric, "categories": steps.categories, "add_indicator": steps.add_indicator}
    return pipeline, {
        "estimator": spec.estimator.to_json(),
        "preprocessing": used,
        "features": list(task.signature.names),
        "target": spec.target,
        "seed": spec.seed,
    }


def _require_fitting(kind: EstimatorKind, task: Task) -> None:
    """What is known before an hour of fitting, or a lack of memory, says it."""
    if kind.max_rows and task.train.rows > kind.max_rows:
        raise UserMistake(
            f"{kind.name} learns from {kind.max_rows} rows at most, and there are {task.train.rows}: "
            "what it needs grows with the square of them.",
            "Take a smaller dataset or split, or another estimator: docs/estimators.md lists them.",
        )
    if task.classes is not None and not kind.takes_minus_one and -1 in task.classes.values:
        hint = "Give the class another number, or a name."
        raise UserMistake(f"To {kind.name} the class -1 says that a row has no label.", hint)


def _answering(signature: Signature, pipeline: Any) -> Signature:
    """The signature, with what the fitted estimator answers: not each classifier knows probabilities."""
    if signature.task == "regression":
        return signature
    scored = hasattr(pipeline[-1], "predict_proba")
    if not scored:
        log.info("this estimator knows no probabilities: the model answers with labels alone")
    return Signature.of(signature.inputs, signature.task, signature.classes, scored=scored)


def _report_curves(pipeline: Any, reporter: Reporter) -> None:
    """How the fit went, round by round, where the estimator kept a record."""
    for name in CURVES:
        curve = getattr(pipeline[-1], name, None)
        for step, value in enumerate([] if curve is None else list(curve)[:MAX_STEPS]):
            reporter.metric(name.strip("_"), float(value), step)


def _predicted(model: SkopsModel, task: Task) -> Prediction:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a number that is none, which is looked for below
            prediction = model.predict(task.held_out.arrays)
    except (ValueError, AttributeError) as error:
        hint = "Choose another estimator, or other parameters."
        raise UserMistake(f"The fitted estimator cannot answer for the rows held out: {error}", hint) from error
    numbers = prediction.values if task.classes is None else prediction.scores
    if numbers is not None and not np.isfinite(numbers).all():
        rows = int((~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)).sum())
        hint = "With neighbours in a radius, choose a larger one; else scale the columns, or the target."
        raise UserMistake(f"The fitted estimator answers {rows} rows held out with what is not a number.", hint)
    return prediction


def _metrics(model: SkopsModel, task: Task) -> dict[str, float]:
    prediction = _predicted(model, task)
    baseline = _baseline(task)
    if task.classes is None:
        found = scoring.regression_metrics(task.truth, prediction.values)
        beside = {} if baseline is None else scoring.regression_metrics(task.truth, baseline[:, 0])
    else:
        known = task.classes.known
        chosen = task.classes.indices_of(np.asarray(prediction.values))
        found = scoring.classification_metrics(task.truth, prediction.scores, known, chosen)
        beside = {} if baseline is None else scoring.classification_metrics(task.truth, baseline, known)
    both = found | {f"baseline_{name}": value for name, value in beside.items()}
    return {name: value for name, value in both.items() if np.isfinite(value)}


def _baseline(task: Task) -> NDArray[np.float64] | None:
    if not task.train.baseline:
        return None
    outcomes = task.wanted[:, None]
    if task.classes is not None:
        outcomes = (outcomes == task.classes.known).astype(np.float64)
    return scoring.smoothed_means(task.train.baseline, outcomes, task.held_out.baseline)


def _twin(job: AttemptJob, folder: Path, task: Task) -> Verdict:
    return twin.make(
        folder,
        task.signature,
        _sample(task.held_out.arrays),
        deadline=timedelta(seconds=job.twin_seconds),
        memory=None if job.memory_bytes is None else job.memory_bytes - children.resident(os.getpid()),
        environment=environments.environment_of(os.environ),
    )


def _sample(arrays: Arrays) -> Arrays:
    """Evenly spread: rows are often in order of time."""
    rows = len(next(iter(arrays.values())))
    places = np.unique(np.linspace(0, rows - 1, min(rows, MAX_COMPARED)).astype(int))
    return {name: array[places] for name, array in arrays.items()}
