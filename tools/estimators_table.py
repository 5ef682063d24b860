"""Write docs/estimators.md: every estimator of scikit-learn is trained, stored, served and compared with itself.

    python tools/estimators_table.py            all, and the page
    python tools/estimators_table.py Ridge SVC  these, and nothing is written

Each is trained as a job trains it, on measured data that scikit-learn brings along, with gaps, categories and times put
in. What serving would load answers then: the twin in ONNX as serving's process runs it, or the original through the
runner child's own program and frames. Both are compared with the fitted estimator itself on held-out rows, on rows with
gaps and unknown categories, beside the model's thresholds and far from all data.
"""

import math
import multiprocessing
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.utils import all_estimators

from models import formats, twin, twin_child
from models.edges import edge_rows, far_rows
from models.estimator_kinds import EstimatorKind
from models.estimator_samples import sample_of
from models.estimator_skips import SKIPS
from models.estimators import ESTIMATORS, estimator_kind, steps_of
from models.examples import rows_of
from models.matrices import matrix_of
from models.onnx_models import OnnxModel
from models.preprocessing import kept, pipeline_of
from models.signature import MISSING_TIME, Arrays, Field, Prediction, Signature
from models.skops_models import SkopsModel
from models.verdicts import TOLERANCE, answerable, made_rows
from serving.runner import frames
from serving.runner.__main__ import Loaded

PAGE = Path(__file__).parents[1] / "docs" / "estimators.md"
DEADLINE = 180.0  # seconds of one estimator, conversion and all
DAY = 86_400_000_000
TASKS = {"two": "classification", "many": "classification", "number": "regression"}
MAX_REASON = 150
HEAD = """\
<!-- Written by `make estimators`. Do not edit. -->
# Estimators

A job names an estimator by its import path: `"estimator": {{"class": "sklearn.ensemble.RandomForestClassifier",
"parameters": {{"max_depth": 8}}}}`. Where an estimator is made of others, each of them is written in the same way:
`"parameters": {{"estimators": [{{"class": "…"}}, {{"class": "…"}}]}}`. All {count} of scikit-learn {version} are here:
{trained} that can be trained, and below them {skipped} that cannot, with the reason.

How columns become numbers follows from the estimator, or is said in `"preprocessing"`:

| `numeric` | numbers, integers, booleans and the hour, weekday and month of times |
|---|---|
| `passthrough` | as they are, with gaps; for estimators that take them |
| `impute_median` | gaps become the median |
| `impute_median_scale` | then mean 0 and deviation 1 |
| `impute_median_unit` | then 0 to 1; what lies outside of the training rows counts as 0 or 1 |
| `impute_median_bins` | then one of five bins with as many rows each |

`categories` are `ordinal` (one number, -1 for one that training never saw) or `one_hot` (a column for each). What the
table below says holds for what each estimator does by itself.

Every line was made by training that estimator on {rows} rows (numbers, integers, booleans, categories
and times, with gaps; classes are strings), storing it, loading it as serving does and comparing its answers with those
of the fitted estimator itself: on held-out rows, on copies of them with gaps and categories that training never saw, on
rows beside the model's own thresholds, and with numbers from 1e-45 to 3.4e38.

* **ONNX** answers in serving's process. Labels are equal on all rows compared, and scores and values differ by no more
  than said: float32 against float64. Values of a regression are compared on the scale of the largest. Two classes whose
  scores differ by less than that may change places. Far from all data it may have no number where the estimator has
  one; serving says so, and answers nothing else.
* A classifier that knows no probabilities answers labels alone; in CalibratedClassifierCV it has scores.
* **skops** answers in the project's runner child, to the last bit as the estimator does. It is what serves where there
  is no ONNX that agrees. The same holds for each model: the trainer compares every twin, and keeps one that agrees.

| estimator | answers | two classes | more classes | a number |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Served:
    """How one estimator is served for one target. `difference` is the largest of scores or values, 0 to the bit."""

    served: str  # "ONNX" or "skops"
    answers: str  # "labels and scores", "labels" or "values"
    difference: float
    labels_equal: bool
    reason: str = ""  # why it is not ONNX

    @property
    def agrees(self) -> bool:
        """Whether what is served may be told from the estimator."""
        return self.labels_equal and self.difference <= (TOLERANCE if self.served == "ONNX" else 0)


@dataclass(frozen=True)
class World:
    """Rows to learn from, and rows held out."""

    columns: tuple[Field, ...]
    train: Arrays
    held_out: Arrays
    targets: NDArray[Any]  # of the training rows


def main(names: Sequence[str]) -> int:
    served = {kind.name: dict(_of(kind)) for kind in ESTIMATORS.values() if not names or kind.name in names}
    wrong = [
        kind.name
        for kind in ESTIMATORS.values()
        if kind.name in served
        and not all(target in served[kind.name] and served[kind.name][target].agrees for target in targets_of(kind))
    ]
    if not names:
        PAGE.write_text(page(served))
    for name in wrong:
        sys.stderr.write(f"✘ {name}: what is served is not what was trained\n")
    return 1 if wrong else 0


def _of(kind: EstimatorKind) -> Iterator[tuple[str, Served]]:
    for target in targets_of(kind):
        found = apart(kind, target)
        sys.stdout.write(f"{kind.name}, {target}: {found}\n")
        sys.stdout.flush()
        yield from [] if found is None else [(target, found)]


def targets_of(kind: EstimatorKind) -> list[str]:
    """Which targets it can be trained for."""
    if kind.name in ("FixedThresholdClassifier", "TunedThresholdClassifierCV"):
        return ["two"]
    return [target for target, task in TASKS.items() if kind.task in ("", task)]


def apart(kind: EstimatorKind, target: str) -> Served | None:
    """In a process of its own, with a deadline: some conversions never end."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_told, args=(kind, target, theirs))
    child.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(DEADLINE) else None
    except EOFError:
        return None
    finally:
        child.kill()
        child.join()


def _told(kind: EstimatorKind, target: str, channel: Any) -> None:
    channel.send(served(kind, target))


def served(kind: EstimatorKind, target: str) -> Served:
    """Train, store, convert, load as serving does, and compare with the estimator."""
    task, world = TASKS[target], world_of(kind, target)
    parameters = sample_of(kind, task)
    kind = estimator_kind(kind.path, parameters, task)
    steps = steps_of(kind, "auto", "auto", False)
    classes = np.unique(world.targets).tolist() if task == "classification" else []
    signature = Signature.of(world.columns, task, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # defaults that do not converge are the defaults
        fitted = pipeline_of(world.columns, kind, parameters, steps=steps)
        fitted.fit(matrix_of(signature, world.train), world.targets)
        scored = task == "classification" and hasattr(fitted, "predict_proba")
        signature = Signature.of(world.columns, task, classes, scored=scored)
        stored = kept(fitted)
        return _compared(fitted, formats.dumps(stored), signature, world.held_out, stored)


def _compared(fitted: Any, content: bytes, signature: Signature, rows: Arrays, stored: Any) -> Served:
    far = answerable(SkopsModel(content, signature), far_rows(signature, rows))
    asked = (rows, made_rows(rows), edge_rows(stored, signature, rows), far)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / twin.SKOPS).write_bytes(content)
        (folder / twin.SIGNATURE).write_text(orjson.dumps(signature.to_json()).decode())
        twin.write_rows(folder / twin.ROWS, rows)
        verdict = twin_child.judge(folder)
        if verdict.kept:
            model = OnnxModel((folder / twin.ONNX).read_bytes(), signature)
            asked = (*asked[:-1], answerable(model, far))  # for others it says that it has no number
            answers = [model.predict(each) for each in asked]
        else:
            answers = _through_the_child(folder / twin.SKOPS, signature, asked)
    found = Served("ONNX" if verdict.kept else "skops", _answers(signature), 0.0, True, _short(verdict.reason))
    for each, answer in zip(asked, answers, strict=True):
        found = _with(found, _itself(fitted, signature, each), answer)
    return replace(found, reason="") if verdict.kept else found


def _itself(fitted: Any, signature: Signature, rows: Arrays) -> Prediction:
    matrix = matrix_of(signature, rows)
    return Prediction(fitted.predict(matrix), fitted.predict_proba(matrix) if signature.scored else None)


def _with(found: Served, itself: Prediction, answer: Prediction) -> Served:
    numbers = answer.values if found.answers == "values" else answer.scores
    known = np.ones(len(answer.values), bool)
    if numbers is not None and found.served == "ONNX":  # what is not a number is said to be none
        known = np.isfinite(np.asarray(numbers, float).reshape(len(known), -1)).all(axis=1)
    equal, difference = True, 0.0
    if found.answers == "values":
        expected = np.ravel(itself.values)[known]
        scale = np.maximum(1.0, np.maximum(np.abs(expected), _size(expected)))
        difference = _largest(expected / scale, np.asarray(answer.values, float)[known] / scale)
    else:
        equal = bool((np.asarray(itself.values)[known] == np.asarray(answer.values)[known]).all())
        if itself.scores is not None and answer.scores is not None:
            difference = _largest(itself.scores[known], np.asarray(answer.scores, float)[known])
    return replace(found, difference=max(found.difference, difference), labels_equal=found.labels_equal and equal)


def _size(values: NDArray[Any]) -> float:
    """The largest of what is no larger than data are: far rows have a scale each."""
    usual = np.abs(values[np.abs(values) < 1e6])
    return float(usual.max()) if len(usual) else 1.0


def _largest(expected: NDArray[Any], answer: NDArray[Any]) -> float:
    both = np.isnan(expected) & np.isnan(answer) | (expected == answer)
    gaps = np.abs(np.where(both, 0, expected) - np.where(both, 0, answer))
    return 0.0 if not gaps.size else float(np.nan_to_num(gaps.max(), nan=math.inf))


def _answers(signature: Signature) -> str:
    if signature.task == "regression":
        return "values"
    return "labels and scores" if signature.scored else "labels"


def _through_the_child(path: Path, signature: Signature, asked: Sequence[Arrays]) -> list[Prediction]:
    """As a replica asks its runner child, which is a thread here: it is in a process of its own already."""
    ours, theirs = socket.socketpair()
    threading.Thread(target=Loaded(theirs).serve, daemon=True).start()
    with ours, ours.makefile("rwb") as file:

        def ask(header: dict[str, Any], parts: Sequence[bytes] = ()) -> tuple[dict[str, Any], bytes]:
            file.write(frames.pack({"id": 1, **header}, parts))
            file.flush()
            while True:
                head, size = frames.sizes(file.read(frames.HEAD.size))
                said, body = orjson.loads(file.read(head)), file.read(size)
                if "begun" not in said:
                    if not said["ok"]:
                        raise RuntimeError(said)
                    return said, body

        digest = formats.digest_of(path.read_bytes())
        order = {"op": "load", "model": "m", "path": str(path), "digest": digest, "format": "skops"}
        ask(
            {
                **order,
                "signature": signature.to_json(),
                "architecture": None,
                "example": rows_of(signature, asked[0], 1),
            }
        )
        answers = []
        for rows in asked:
            columns, parts = frames.columns_of(rows)
            answers.append(frames.prediction_of(*ask({"op": "predict", "model": "m", "columns": columns}, parts)))
        return answers


def world_of(kind: EstimatorKind, target: str) -> World:
    """Wine, cells or patients, as a table has them: some columns are categories, whole numbers, flags and times."""
    load = {"two": datasets.load_breast_cancer, "many": datasets.load_wine, "number": datasets.load_diabetes}[target]
    numbers, wanted = load(return_X_y=True)
    random = np.random.default_rng(0)
    order = random.permutation(len(numbers))
    numbers, wanted = numbers[order], wanted[order]
    bands = np.array(["low", "mild", "strong", "hell"], object)
    columns: dict[tuple[str, str, bool], NDArray[Any]] = {
        ("first", "number", False): numbers[:, 0],
        ("second", "number", True): _with_gaps(numbers[:, 1], random, np.nan),
        ("third", "number", False): numbers[:, 2],
        ("rank", "integer", False): np.argsort(np.argsort(numbers[:, 3])) // 8,
        ("above", "boolean", False): numbers[:, 4] > np.median(numbers[:, 4]),
        ("band", "string", True): _with_gaps(bands[_quarters(numbers[:, 5])], random, ""),
        ("site", "string", False): bands[_quarters(numbers[:, 6])],
        ("seen", "timestamp", True): _with_gaps(_quarters(numbers[:, 7]) * 6 * DAY // 24 + DAY, random, MISSING_TIME),
    }
    kinds: dict[str, type] = {"string": object, "timestamp": np.int64}
    if kind.name == "IsotonicRegression":
        columns = {("third", "number", False): numbers[:, 2]}
    half = len(numbers) * 3 // 5
    arrays: Arrays = {
        name: values.astype(kinds.get(type_, np.float32)).reshape(-1, 1) for (name, type_, _), values in columns.items()
    }
    targets = wanted if target == "number" else np.array([f"class {each}" for each in wanted], object)
    return World(
        tuple(Field(*column) for column in columns),
        {name: array[:half] for name, array in arrays.items()},
        {name: array[half:] for name, array in arrays.items()},
        targets[:half],
    )


def _quarters(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.asarray(np.digitize(values, np.quantile(values, [0.25, 0.5, 0.75])), np.int64)


def _with_gaps(values: NDArray[Any], random: np.random.Generator, gap: Any) -> NDArray[Any]:
    values = values.copy()
    values[random.random(len(values)) < 0.1] = gap
    return values


def page(served: dict[str, dict[str, Served]]) -> str:
    """The page."""
    import sklearn  # noqa: PLC0415 - for its version alone

    rows = " or ".join(str(len(load(return_X_y=True)[1]) * 3 // 5) for load in _LOADS)
    head = HEAD.format(
        count=len(all_estimators()), version=sklearn.__version__, trained=len(ESTIMATORS), skipped=len(SKIPS), rows=rows
    )
    lines = [_line(kind, served[kind.name]) for kind in sorted(ESTIMATORS.values(), key=lambda kind: kind.path)]
    skipped = [f"| {name} | {reason} |" for name, reason in sorted(SKIPS.items())]
    reasons = sorted(
        {f"* {name}: {one.reason}" for name, found in served.items() for one in found.values() if one.reason}
    )
    return "\n".join(
        [
            head + "\n".join(lines),
            "\n## Why skops, where it is not ONNX\n",
            *reasons,
            "\n## Parameters\n",
            "`random_state` is the job's `seed`; `n_jobs`, `verbose` and `warm_start` are the platform's.\n",
            *(_parameters(kind) for kind in sorted(ESTIMATORS.values(), key=lambda kind: kind.path)),
            "\n## Not trained here\n",
            "| estimator | it |",
            "|---|---|",
            *skipped,
            "",
        ]
    )


def _line(kind: EstimatorKind, found: dict[str, Served]) -> str:
    answers = " / ".join(sorted({one.answers for one in found.values()}))
    return f"| `{kind.path}` | {answers} | {' | '.join(cell_of(found.get(target)) for target in TASKS)} |"


def _parameters(kind: EstimatorKind) -> str:
    said = [
        f"`{name}`{' (required)' if name in kind.required else ''}: {' or '.join(map(str, rules))}"
        for name, rules in kind.parameters.items()
    ]
    most = f", {kind.max_rows:,} rows at most" if kind.max_rows else ""
    return f"* **{kind.name}**, {kind.steps.numeric}, {kind.steps.categories}{most}. {'; '.join(said)}."


def cell_of(one: Served | None) -> str:
    """What the page says of it."""
    if one is None:
        return "-"
    if one.served == "skops":
        return "skops, to the bit" if one.agrees else "**differs**"
    return f"ONNX, ≤ {_rounded(one.difference):.0e}" if one.agrees else "**differs**"


def _rounded(difference: float) -> float:
    """Up to a power of ten, and at least what float32 rounds: a measured figure is another on each machine."""
    return float(10.0 ** max(-6, math.ceil(math.log10(difference)))) if difference else 1e-6


def _short(reason: str) -> str:
    first = reason.partition("\n")[0]
    for known, said in _REASONS:
        if known in first:
            return said
    return first[:MAX_REASON]


_LOADS = (datasets.load_breast_cancer, datasets.load_wine, datasets.load_diabetes)
_REASONS = (
    ("Unable to find a shape calculator", "skl2onnx has no converter for it"),
    ("runs no Scan", "its ONNX needs a loop, which serving's process does not run"),
    ("not an ONNX model", "what skl2onnx makes of it is not valid"),
    ("Only binary classification", "skl2onnx converts two classes only"),
    ("invalid literal for int()", "skl2onnx converts integer classes only"),
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
