"""A model that was made elsewhere goes the way of `examples/bring-a-model`: pushed, aliased, deployed, asked."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from suites_at_work import Suite

from trainyard.errors import Invalid

EXAMPLE = Path(__file__).parents[2] / "examples" / "bring-a-model"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The example's own model."""
    spec = importlib.util.spec_from_file_location("make_model", EXAMPLE / "make_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_model"] = module
    spec.loader.exec_module(module)
    return module.make(tmp_path_factory.mktemp("made"))


def test_a_model_made_elsewhere_is_pushed_deployed_and_asked(shared_suite: Suite, made: Any) -> None:
    environment = {"TRAINYARD_HOME": str(shared_suite.home.folder), "TRAINYARD_OUTPUT": "json"}

    def trainyard(*arguments: str) -> Any:
        """The command line, as the page has it."""
        done = subprocess.run(
            [sys.executable, "-c", "from trainyard.cli.main import app; app()", *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    pushed = trainyard("model", "push", "digits", str(made.model), "--example", f"@{made.rows}", "-m", "accuracy=0.97")
    assert [file["origin"] for file in pushed["formats"]] == ["user"]
    again = trainyard("model", "push", "digits", str(made.model))
    assert (again["version"], again["digest"]) == (pushed["version"], pushed["digest"])
    trainyard("model", "alias", "digits", "champion", str(pushed["version"]))
    trainyard("deployment", "put", "digits", "digits@champion")
    answer = trainyard("predict", "digits", "-d", f"@{made.rows}")
    assert [row["label"] for row in answer["predictions"]] == json.loads(made.labels.read_text())
    assert [len(row["probabilities"]) for row in answer["predictions"]] == [10, 10, 10]
    assert (answer["model"], answer["version"]) == ("digits", pushed["version"])


def test_a_pickle_gets_no_further_than_the_gateway_lets_it(shared_suite: Suite, tmp_path: Path) -> None:
    pickled = tmp_path / "model.onnx"
    pickled.write_bytes(b"\x80\x04}." + b"x" * (3 << 20))
    signature = {
        "task": "tensors",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    }
    with shared_suite.client() as client:
        with pytest.raises(Invalid, match="a pickle") as caught:
            client.models.push("pickled", pickled, signature=signature)
        assert caught.value.code == "unsafe-model"
        assert "pickled" not in [model.name for model in client.models.list()]
