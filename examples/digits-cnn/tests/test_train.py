"""The example is one program everywhere: plain Python, two processes, and a job of the platform."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import prepare
import pyarrow.csv
import pytest
import torch_here
import yaml
from pyarrow import parquet
from sklearn.datasets import load_digits

torch_here.need()

HERE = Path(__file__).parent.parent
PROGRAM = str(HERE / "train.py")


def trained(folder: Path, *command: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command, PROGRAM],
        cwd=folder,
        env={**torch_here.environment(), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_as_plain_python_it_learns_to_read(tmp_path: Path) -> None:
    said = trained(tmp_path)
    model = tmp_path / "trainyard-run" / "outputs" / "model"
    document = json.loads((model / "model.json").read_text())
    assert document["metrics"]["accuracy"] > 0.97
    assert f"right about {document['metrics']['accuracy']:.1%} of 360 held-out digits\n" == said
    pixels, digits = load_digits(return_X_y=True)
    images = (pixels[::5] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    (scores,) = onnxruntime.InferenceSession(model / "model.onnx").run(["scores"], {"image": images})
    assert (scores.argmax(1) == digits[::5]).mean() == pytest.approx(document["metrics"]["accuracy"], abs=1e-6)
    assert document["signature"]["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]


def test_in_a_job_two_processes_take_its_dataset_and_its_parameters(tmp_path: Path) -> None:
    table = pyarrow.csv.read_csv(prepare.write(tmp_path / "digits.csv"))
    files: dict[str, list[str]] = {"train": [], "test": []}
    for number, (split, rows) in enumerate([("train", (0, 700)), ("train", (700, 700)), ("test", (1400, 397))]):
        files[split].append(str(tmp_path / f"{number}.parquet"))
        parquet.write_table(table.slice(*rows), files[split][-1])
    (tmp_path / "run.json").write_text(
        json.dumps(
            {
                "job": "0",
                "attempt": 1,
                "seed": 1,
                "parameters": {"epochs": 4},
                "dataset": {"reference": "digits@1", "digest": "sha256:0", "columns": [], "splits": files},
                "checkpoints": str(tmp_path / "checkpoints"),
                "outputs": str(tmp_path / "outputs"),
                "socket": None,
            }
        )
    )
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    said = trained(tmp_path, *torchrun, TRAINYARD_RUN_FILE=str(tmp_path / "run.json"))
    (accuracy,) = re.findall(r"right about ([0-9.]+)% of 397 held-out digits", said)
    assert float(accuracy) > 85
    (last,) = [path for path in (tmp_path / "checkpoints").iterdir() if path.name == f"{4 * 22:012d}"]
    assert len(list(last.glob("rank-*"))) == 2


def test_the_job_says_what_the_program_knows() -> None:
    job: dict[str, Any] = yaml.safe_load((HERE / "job.yaml").read_text())
    defaults = re.search(r"DEFAULTS = (\{.*\})", (HERE / "train.py").read_text())
    assert defaults is not None
    assert job["parameters"].items() <= json.loads(defaults[1]).items()
    assert (HERE / job["entrypoint"]).is_file()
