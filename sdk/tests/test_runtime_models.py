"""Models as a program hands them over: files and what is to be known of them, whole or not there."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from trainyard.runtime.mistakes import UnknownModel
from trainyard.runtime.runs import Run, facts_of


def run_in(folder: Path, **environment: str) -> Run:
    return Run(facts_of(environment, folder, {"lr": 0.1}, None), environment)


def document_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return found


@pytest.fixture(scope="module")
def fitted() -> tuple[Any, Any]:
    pixels, digits = load_digits(return_X_y=True)
    rows = pixels[:300].astype(np.float32)
    return LogisticRegression(max_iter=20, tol=1).fit(rows, digits[:300]), rows


def test_a_model_of_scikit_learn_becomes_onnx(tmp_path: Path, fitted: tuple[Any, Any]) -> None:
    model, rows = fitted
    folder = run_in(tmp_path).save_model(model, example=rows[:2], metrics={"accuracy": np.float32(0.5)})
    document = document_of(folder)
    assert document["formats"] == [{"format": "onnx", "path": "model.onnx"}]
    assert document["signature"]["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 64]}]
    assert (document["task"], document["metrics"], document["parameters"]) == (
        "tensors",
        {"accuracy": 0.5},
        {"lr": 0.1},
    )
    assert document["input_example"] == [{"X": row} for row in rows[:2].tolist()]
    labels = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"X": rows})[0]
    assert labels.tolist() == model.predict(rows).tolist()


def test_or_skops(tmp_path: Path, fitted: tuple[Any, Any]) -> None:
    signature = {"task": "regression", "inputs": [], "outputs": []}
    folder = run_in(tmp_path).save_model(fitted[0], format="skops", signature=signature)
    assert document_of(folder)["formats"] == [{"format": "skops", "path": "model.skops"}]
    assert document_of(folder)["signature"] == signature
    assert (folder / "model.skops").read_bytes().startswith(b"PK")


def test_an_onnx_model_is_taken_as_it_is(tmp_path: Path, fitted: tuple[Any, Any]) -> None:
    run = run_in(tmp_path)
    first = run.save_model(fitted[0], example=fitted[1][:1])
    import_onnx = __import__("onnx").load(first / "model.onnx")
    folder = run.save_model(import_onnx)
    assert document_of(folder)["signature"]["inputs"][0]["name"] == "X"
    assert document_of(folder)["input_example"] is None


def test_a_file_is_of_the_format_that_its_name_says(tmp_path: Path) -> None:
    (tmp_path / "trees.ubj").write_bytes(b"{}")
    folder = run_in(tmp_path).save_model(tmp_path / "trees.ubj", parameters={"depth": 3})
    assert document_of(folder)["formats"] == [{"format": "xgboost", "path": "trees.ubj"}]
    assert document_of(folder)["parameters"] == {"lr": 0.1, "depth": 3}
    assert (folder / "trees.ubj").read_bytes() == b"{}"


def test_a_folder_is_files_and_links_are_left(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    (source / "weights.pkl").write_bytes(b"1")
    (source / "vocabulary.dat").write_bytes(b"2")
    (source / "link").symlink_to("/etc/passwd")
    folder = run_in(tmp_path).save_model(source)
    assert document_of(folder)["formats"] == [
        {"format": "files", "path": "vocabulary.dat"},
        {"format": "files", "path": "weights.pkl"},
    ]
    assert (folder / "vocabulary.dat").read_bytes() == b"2"


@pytest.mark.parametrize("names", [[], [f"{number}.dat" for number in range(9)], ["folder/x"]])
def test_a_folder_has_some_files_and_no_folders(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(b"1")
    (tmp_path / "mine").mkdir(exist_ok=True)
    with pytest.raises(UnknownModel, match="A model has 1 to 8 files"):
        run_in(tmp_path).save_model(tmp_path / "mine")


def test_files_have_names(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"1")
    folder = run_in(tmp_path).save_model({"w.safetensors": tmp_path / "w"}, architecture={"name": "linear"})
    assert document_of(folder)["formats"] == [{"format": "safetensors", "path": "w.safetensors"}]
    assert document_of(folder)["parameters"]["architecture"] == {"name": "linear"}


def test_what_is_saved_again_takes_the_place(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
        folder = run.save_model(tmp_path / name)
    assert sorted(path.name for path in folder.iterdir()) == ["b.txt", "model.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_of_several_processes_the_first_saves(tmp_path: Path) -> None:
    folder = run_in(tmp_path, WORLD_SIZE="2", RANK="1").save_model(tmp_path / "nothing")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("model", "known", "message"),
    [
        (object(), {}, "is no torch module, no scikit-learn estimator"),
        ("nowhere.onnx", {}, "There is no file"),
        ({"../x": "w"}, {}, "is no name for a file"),
        ({"/x": "w"}, {}, "is no name for a file"),
        ({"model.json": "w"}, {}, "is no name for a file"),
        (LogisticRegression(), {}, "with rows that it takes"),
        (LogisticRegression(), {"format": "pt2"}, "with rows that it takes"),
        ("w", {"metrics": {"loss": math.nan}}, "not a finite number"),
    ],
)
def test_what_is_no_model_is_refused_and_nothing_is_left(
    tmp_path: Path, model: Any, known: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w").write_bytes(b"1")
    run = run_in(tmp_path)
    with pytest.raises(UnknownModel, match=message):
        run.save_model(model, **known)
    assert list(run.facts.outputs.iterdir()) == []
