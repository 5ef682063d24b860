"""A job is trained for real: the model, its twin, its metrics, and what its author got wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from attempts_at_work import FAST, FEATURES, HIST, Attempt, flights, prepare, result_of, start

from models import formats
from models.onnx_models import OnnxModel
from models.rows import arrays_of
from models.signature import Signature
from models.skops_models import SkopsModel
from trainer.domain.attempts import ONNX_FILE, SKOPS_FILE, AttemptJob, Exit, Outcome
from trainer.runtime import outputs, program
from trainer.runtime.environments import environment_of

Spec = dict[str, Any]
Run = Callable[..., tuple[Exit, Any]]

TREE = {"class": "sklearn.tree.DecisionTreeClassifier"}


def test_a_job_leaves_a_model_a_twin_that_agrees_and_metrics_beside_the_baseline(
    run: Run, tmp_path: Path, attempt: Attempt, table: pa.Table, held_out: pa.Table
) -> None:
    code, result = run(train=table, held_out=held_out, baseline=["carrier", "hour"], twin_seconds=60)
    assert (code, result.outcome) == (Exit.SUCCEEDED, Outcome.SUCCEEDED)
    assert result.rows == {"train": 1500, "held_out": 600}
    assert result.metrics["roc_auc"] > result.metrics["baseline_roc_auc"] > 0.6
    assert set(result.metrics) == {
        f"{prefix}{name}"
        for prefix in ("", "baseline_")
        for name in ("roc_auc", "average_precision", "log_loss", "accuracy")
    }
    assert result.model.twin["kept"], result.model.twin
    assert [file.format for file in result.model.files] == ["skops", "onnx"]
    for file in result.model.files:
        content = (tmp_path / file.path).read_bytes()
        assert (file.digest, file.size) == (formats.digest_of(content), len(content))
    assert result.model.code_digest == outputs.code_digest()
    assert result.model.environment["scikit-learn"] == "1.9.1"
    assert result.model.parameters["preprocessing"]["numeric"] == "passthrough"


def test_the_input_example_is_answered_alike_by_both_formats(
    run: Run, tmp_path: Path, table: pa.Table, held_out: pa.Table
) -> None:
    _, result = run(train=table, held_out=held_out, twin_seconds=60)
    signature = Signature.from_json(result.model.signature)
    assert signature.names == tuple(FEATURES)
    assert signature.classes == (False, True)
    arrays = arrays_of(signature, {"rows": list(result.model.input_example)})
    original = SkopsModel((tmp_path / SKOPS_FILE).read_bytes(), signature)
    twin = OnnxModel((tmp_path / ONNX_FILE).read_bytes(), signature)
    for model in (original, twin):
        assert [type(answer["label"]) for answer in signature.answers_of(model.predict(arrays))] == [bool] * 3
    one, other = original.predict(arrays).scores, twin.predict(arrays).scores
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("twin_seconds", [60, 0.1])
def test_a_classifier_without_probabilities_answers_labels_by_both_formats(
    run: Run, tmp_path: Path, table: pa.Table, held_out: pa.Table, twin_seconds: float
) -> None:
    estimator = {"class": "sklearn.svm.LinearSVC"}
    _, result = run(train=table, held_out=held_out, estimator=estimator, twin_seconds=twin_seconds)
    assert set(result.metrics) == {"accuracy"}
    signature = Signature.from_json(result.model.signature)
    assert not signature.scored
    assert result.model.twin["kept"] == (twin_seconds > 1), result.model.twin
    arrays = arrays_of(signature, {"rows": list(result.model.input_example)})
    original = SkopsModel((tmp_path / SKOPS_FILE).read_bytes(), signature)
    answers = signature.answers_of(original.predict(arrays))
    assert [[*answer] for answer in answers] == [["label"]] * 3
    if result.model.twin["kept"]:
        twin = OnnxModel((tmp_path / ONNX_FILE).read_bytes(), signature)
        assert signature.answers_of(twin.predict(arrays)) == answers


def test_what_a_search_found_is_what_is_kept(run: Run, tmp_path: Path, table: pa.Table, held_out: pa.Table) -> None:
    parameters = {"estimator": TREE, "param_grid": {"max_depth": [1, 4]}, "cv": 3}
    estimator = {"class": "sklearn.model_selection.GridSearchCV", "parameters": parameters}
    contents = []
    for _ in range(2):
        _, result = run(train=table, held_out=held_out, estimator=estimator, twin_seconds=60)
        contents.append((tmp_path / SKOPS_FILE).read_bytes())
    assert contents[0] == contents[1]
    assert formats.load(contents[0])[-1].max_depth == 4
    assert result.model.twin["kept"], result.model.twin


def test_a_conversion_that_takes_too_long_costs_the_twin_and_not_the_model(
    run: Run, tmp_path: Path, table: pa.Table, held_out: pa.Table
) -> None:
    code, result = run(train=table, held_out=held_out, twin_seconds=0.01)
    assert code is Exit.SUCCEEDED
    assert result.model.twin["reason"] == "The conversion did not end within 0.01 s."
    assert [file.format for file in result.model.files] == ["skops"]


def test_a_conversion_without_memory_costs_the_twin_and_not_the_model(
    run: Run, table: pa.Table, held_out: pa.Table
) -> None:
    code, result = run(train=table, held_out=held_out, twin_seconds=60, memory_bytes=64 << 20)
    assert code is Exit.SUCCEEDED
    assert result.model.twin["reason"] == "There is too little memory left for the conversion."


def test_an_example_is_no_larger_than_a_manifest_has_room_for(run: Run, table: pa.Table, held_out: pa.Table) -> None:
    texts = ["x" * 70_000, *["a"] * (len(held_out) - 1)]
    _, result = run(
        train=table.append_column("text", pa.array(["a"] * len(table))),
        held_out=held_out.append_column("text", pa.array(texts)),
        features=["hour", "text"],
    )
    assert [row["text"] for row in result.model.input_example] == ["a", "a"]


def test_columns_without_a_gap_are_not_nullable(run: Run, table: pa.Table, held_out: pa.Table) -> None:
    _, result = run(train=table, held_out=held_out)
    nullable = {column["name"]: column["nullable"] for column in result.model.signature["inputs"]}
    assert nullable == dict.fromkeys(FEATURES, False) | {"carrier": True, "wind": True}
    types = {column["name"]: column["type"] for column in result.model.signature["inputs"]}
    assert (types["seats"], types["day"], types["cargo"]) == ("number", "timestamp", "boolean")


def test_the_trainer_hears_of_stages_metrics_and_heartbeats_with_the_attempt_s_token(
    run: Run, attempt: Attempt, table: pa.Table, held_out: pa.Table
) -> None:
    run(train=table, held_out=held_out)
    assert {token for token, _, _ in attempt.calls} == {"Bearer secret-of-a1"}
    assert {"reading", "fitting", "evaluating", "converting"} <= set(attempt.lines)
    assert any(kind == "heartbeat" and "stage" in body["progress"] for _, kind, body in attempt.calls)
    assert "roc_auc" in {point["name"] for point in attempt.entries("metrics", "points")}
    numbers = [entry["number"] for entry in attempt.entries("logs", "entries")]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.filterwarnings("always::sklearn.exceptions.ConvergenceWarning")
def test_rounds_of_training_are_metrics_by_step(
    run: Run, attempt: Attempt, table: pa.Table, held_out: pa.Table
) -> None:
    estimator = {"class": "sklearn.neural_network.MLPClassifier", "parameters": {"max_iter": 5}}
    code, _ = run(train=table, held_out=held_out, estimator=estimator)
    assert code is Exit.SUCCEEDED
    points = [point for point in attempt.entries("metrics", "points") if point["name"] == "loss_curve"]
    assert [point["step"] for point in points] == [0, 1, 2, 3, 4]
    assert any("ConvergenceWarning" in line for line in attempt.lines)


@pytest.mark.parametrize("label", ["text", "integer", "whole numbers"])
def test_labels_may_be_text_or_whole_numbers(run: Run, table: pa.Table, held_out: pa.Table, label: str) -> None:
    def labelled(each: pa.Table) -> pa.Table:
        late = each["late"].to_numpy(zero_copy_only=False)
        kinds = {"text": np.where(late, "late", "early"), "integer": late + 1, "whole numbers": late.astype(float)}
        return each.set_column(each.column_names.index("late"), "late", pa.array(kinds[label]))

    _, result = run(train=labelled(table), held_out=labelled(held_out))
    wanted = {"text": ["early", "late"], "integer": [1, 2], "whole numbers": [0, 1]}
    assert result.model.signature["classes"] == wanted[label]


def test_a_regression_has_its_own_metrics(run: Run, table: pa.Table, held_out: pa.Table) -> None:
    estimator = {"class": "sklearn.linear_model.Ridge"}
    _, result = run(
        train=table,
        held_out=held_out,
        task="regression",
        target="delay",
        estimator=estimator,
        baseline=["hour"],
        twin_seconds=60,
    )
    assert result.metrics["r2"] > 0.8
    assert result.metrics["baseline_rmse"] > result.metrics["rmse"]
    assert result.model.signature["outputs"] == [{"name": "value", "type": "number", "nullable": False}]
    assert result.model.twin["kept"], result.model.twin


def test_without_a_list_all_columns_but_the_target_are_features(
    run: Run, attempt: Attempt, table: pa.Table, held_out: pa.Table
) -> None:
    odd = pa.array([[1]] * 1500), pa.array([[1]] * 600)
    _, result = run(
        train=table.drop(["delay"]).append_column("list", odd[0]),
        held_out=held_out.drop(["delay"]).append_column("list", odd[1]),
        features=None,
    )
    assert result.model.parameters["features"] == FEATURES


def test_rows_without_a_target_are_left_out_and_said(
    run: Run, attempt: Attempt, table: pa.Table, held_out: pa.Table
) -> None:
    gaps = pa.array([None if index % 3 == 0 else index % 2 == 0 for index in range(1500)], pa.bool_())
    _, result = run(train=table.set_column(7, "late", gaps), held_out=held_out)
    assert result.rows == {"train": 1000, "held_out": 600}
    assert "500 of 1500 train rows have no target; they are left out" in attempt.lines


def test_classes_that_training_never_saw_are_left_out_and_said(
    run: Run, attempt: Attempt, table: pa.Table, held_out: pa.Table
) -> None:
    known = pa.array(np.arange(1500) % 2)
    _, result = run(
        train=table.set_column(7, "late", known),
        held_out=held_out.set_column(7, "late", pa.array(np.arange(600) % 3)),
        baseline=["carrier"],
    )
    assert result.rows["held_out"] == 400
    assert any("training did not see" in line for line in attempt.lines)


@pytest.mark.parametrize("parameters", [{"categorical_features": ["carrier"]}, None])
def test_what_converts_silently_wrong_is_trained_and_its_twin_refused(
    run: Run, tmp_path: Path, attempt: Attempt, table: pa.Table, held_out: pa.Table, parameters: Any
) -> None:
    spec = {"estimator": {"class": HIST, "parameters": (parameters or {}) | {"max_iter": 20}}}
    if parameters is None:
        spec["preprocessing"] = {"numeric": "impute_median", "add_indicator": True}
    code, result = run(train=table, held_out=held_out, twin_seconds=60, **spec)
    assert code is Exit.SUCCEEDED
    assert not result.model.twin["kept"]
    assert "differ" in result.model.twin["reason"] or "cannot answer" in result.model.twin["reason"]
    assert [file.format for file in result.model.files] == ["skops"]
    assert not (tmp_path / ONNX_FILE).exists()
    assert any(line.startswith("twin not kept") for line in attempt.lines)


def memorable(rows: int, seed: int) -> pa.Table:
    """Rows that a tree can learn by heart, and labels that mean nothing."""
    random = np.random.default_rng(seed)
    return pa.table({"x": random.random(rows), "y": random.random(rows), "late": random.integers(0, 2, rows)})


def test_random_labels_give_an_auc_of_one_half(run: Run) -> None:
    train, held_out = memorable(10_000, 0), memorable(10_000, 1)
    _, result = run(train=train, held_out=held_out, features=["x", "y"], baseline=["x"])
    assert result.metrics["roc_auc"] == pytest.approx(0.5, abs=0.02)
    assert result.metrics["baseline_roc_auc"] == pytest.approx(0.5, abs=0.02)


def test_permuted_labels_give_an_auc_of_one_half(run: Run) -> None:
    def permuted(rows: int, seed: int) -> pa.Table:
        each = flights(rows, seed)
        late = np.random.default_rng(seed + 100).permutation(each["late"].to_numpy(zero_copy_only=False))
        return each.set_column(7, "late", pa.array(late))

    _, result = run(train=permuted(10_000, 0), held_out=permuted(10_000, 1), baseline=["carrier", "hour"])
    assert result.metrics["roc_auc"] == pytest.approx(0.5, abs=0.02)
    assert result.metrics["baseline_roc_auc"] == pytest.approx(0.5, abs=0.02)


def test_no_held_out_row_is_learned_from_and_no_training_row_is_asked(run: Run) -> None:
    # The tree learns its rows by heart: one shared row would be answered rightly for certain.
    train, held_out = memorable(10_000, 0), memorable(10_000, 1)
    _, result = run(train=train, held_out=held_out, features=["x", "y"], estimator=TREE)
    assert result.metrics["accuracy"] == pytest.approx(0.5, abs=0.02)
    _, result = run(
        train=train, held_out=train.slice(5).append_column("z", train["x"][5:]), estimator=TREE, features=None
    )
    assert result.metrics["accuracy"] > 0.99  # what a leak would look like here


def test_a_shard_in_both_splits_is_our_defect_and_refused(run: Run, table: pa.Table) -> None:
    code, result = run(train=table, held_out=table)
    assert (code, result.outcome) == (Exit.PLATFORM_ERROR, Outcome.PLATFORM_ERROR)
    assert "both in the training split and held out" in result.message


def test_a_defect_of_ours_is_said_without_a_hint_and_may_be_tried_again(
    run: Run, tmp_path: Path, attempt: Attempt, table: pa.Table, held_out: pa.Table
) -> None:
    prepare(tmp_path, attempt.url, train=table, held_out=held_out)
    (tmp_path / "train-1.parquet").write_bytes(b"PAR1 damaged")
    code = program.main(tmp_path)
    assert (code, result_of(tmp_path).outcome) == (Exit.PLATFORM_ERROR, Outcome.PLATFORM_ERROR)


def test_an_attempt_that_is_over_ends_without_a_model(
    run: Run, tmp_path: Path, attempt: Attempt, table: pa.Table, held_out: pa.Table
) -> None:
    attempt.answers["heartbeat"] = (410, b"")
    endless = {"class": HIST, "parameters": {"max_iter": 10_000, "early_stopping": False}}
    code, result = run(train=table, held_out=held_out, estimator=endless)
    assert (code, result.outcome, result.model) == (Exit.STOPPED, Outcome.STOPPED, None)
    assert not (tmp_path / SKOPS_FILE).exists()


def test_the_same_job_gives_the_same_bytes_in_two_processes(
    tmp_path: Path, attempt: Attempt, table: pa.Table, held_out: pa.Table
) -> None:
    results: list[Any] = []
    for name, seed in (("one", "1"), ("two", "2")):
        folder = tmp_path / name
        folder.mkdir()
        prepare(folder, attempt.url, train=table, held_out=held_out, estimator=FAST)
        process = start(folder, PYTHONHASHSEED=seed, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2")
        assert process.wait(60) == Exit.SUCCEEDED
        process.communicate()
        results.append(result_of(folder))
    assert results[0] == results[1]
    assert [file.format for file in results[0].model.files] == ["skops", "onnx"]


def test_a_job_gets_nothing_of_the_host_s_environment_but_what_is_named() -> None:
    host = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "TRAINER_DATABASE_URL": "y", "OMP_NUM_THREADS": "8"}
    environment = environment_of(host)
    assert environment["PATH"] == "/bin"
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "1"
    assert not {"AWS_SECRET_ACCESS_KEY", "TRAINER_DATABASE_URL"} & set(environment)
    assert environment_of(environment) == environment


def test_the_job_s_file_survives_json(tmp_path: Path) -> None:
    prepare(tmp_path, "http://127.0.0.1:1", train=flights(10), held_out=flights(10), baseline=["hour"])
    job = AttemptJob.from_json(json.loads((tmp_path / "job.json").read_text()))
    assert AttemptJob.from_json(json.loads(json.dumps(job.to_json()))) == job
