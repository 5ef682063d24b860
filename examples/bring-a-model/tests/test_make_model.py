"""The model of the example is what its page says."""

import json
import re
from pathlib import Path

import make_model
import numpy as np
import onnxruntime
import pytest

from trainyard.onnx_files import signature_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> make_model.Made:
    return make_model.make(tmp_path_factory.mktemp("made"))


def test_it_says_itself_what_it_takes_and_gives(made: make_model.Made) -> None:
    signature = signature_of(made.model)
    assert signature["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]
    assert signature["outputs"] == [
        {"name": "label", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
    ]


def test_it_knows_digits(made: make_model.Made) -> None:
    rows = np.array([row["pixels"] for row in json.loads(made.rows.read_text())], np.float32)
    labels, scores = onnxruntime.InferenceSession(made.model.read_bytes()).run(None, {"pixels": rows})
    assert labels.tolist() == json.loads(made.labels.read_text())
    assert scores.shape == (3, 10)
    assert made.accuracy > 0.95


def test_the_page_says_the_accuracy_that_it_has(made: make_model.Made) -> None:
    page = (make_model.HERE / "README.md").read_text()
    said = {float(number) for number in re.findall(r"accuracy[^0-9]{1,8}(0\.[0-9]+)", page)}
    assert said == {round(made.accuracy, 2)}


def test_it_is_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_model.main([str(tmp_path / "new")]) == 0
    assert "held-out digits" in capsys.readouterr().out
    assert (tmp_path / "new" / "digits.onnx").stat().st_size < 10_000
