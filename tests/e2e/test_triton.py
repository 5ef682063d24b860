"""The inference protocol's own client gets what everybody gets. `make test` makes it an environment of its own."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from suites_at_work import Suite
from worlds import World, rows_of

from models.rows import arrays_of
from models.signature import Signature
from models.skops_models import SkopsModel
from trainyard import Client

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".cache" / "triton" / "bin" / "python"
INSTEAD = 7.5
"""For what is missing, where JSON has to say it: it has no NaN."""
PROGRAM = Path(__file__).with_name("triton_client.py")


def rows() -> list[dict[str, Any]]:
    """Fifty, as JSON has them, with what is missing as null."""
    found = list(csv.DictReader(io.StringIO(rows_of(9).decode())))[:50]
    return [
        {
            "day": int(row["day"]),
            "hour": int(row["hour"]),
            "carrier": row["carrier"],
            "wind": None if row["wind"] == "NA" else float(row["wind"]),
        }
        for row in found
    ]


def test_triton_rows_and_the_estimator_agree(shared_suite: Suite, world: World, tmp_path: Path) -> None:
    if not PYTHON.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{PYTHON} is missing: `make {PYTHON.parents[1].relative_to(ROOT)}` makes it")
        pytest.skip(f"{PYTHON} is missing: `make test` makes it")
    with shared_suite.client() as client:
        assert client.runs.wait(world.start(client, seed=1).id).phase == "succeeded"
        asked = rows()
        whole = [{name: INSTEAD if value is None else value for name, value in row.items()} for row in asked]
        client.models.download(world.name, 1, tmp_path)
        estimator = _estimator(client, world, tmp_path)
        plain = [client.predict(world.name, them).predictions for them in (asked, whole)]
        binary, text = _triton(client, world, asked)
    for them, said, answer in ((asked, plain[0], binary), (whole, plain[1], text)):
        labels, scores = estimator(them)
        values = [next(value for value in row.values() if not isinstance(value, dict | float)) for row in said]
        assert [_truth(value) for value in values] == [_truth(label) for label in labels]
        flat = {name: np.array(values) for name, values in answer.items()}
        label = next(values for values in flat.values() if values.size == len(asked))
        assert [_truth(value) for value in label.ravel()] == [_truth(value) for value in labels]
        wide = [values for values in flat.values() if values.size == 2 * len(asked)]
        assert wide, flat.keys()
        assert np.allclose(wide[0].astype(float).reshape(-1, 2), scores, atol=1e-5)


def _truth(value: object) -> bool:
    return str(value).lower() in ("true", "1", "b'true'")


def _triton(client: Client, world: World, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    columns = {name: [row[name] for row in asked] for name in asked[0]}
    order = {
        "netloc": client.url.removeprefix("http://"),
        "authorization": client._http.headers["authorization"],
        "model": world.name,
        "columns": columns,
        "instead": INSTEAD,
    }
    done = subprocess.run(
        [str(PYTHON), str(PROGRAM)], input=json.dumps(order), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def _estimator(client: Client, world: World, folder: Path) -> Callable[[list[dict[str, Any]]], tuple[list[Any], Any]]:
    """The pipeline itself, as it was downloaded, asked in this process."""
    version = client.models.version(world.name)
    signature = Signature.from_json(dict(version.signature))
    path = next(str(file["path"]) for file in version.formats if file["format"] == "skops")
    model = SkopsModel((folder / path).read_bytes(), signature)

    def ask(rows: list[dict[str, Any]]) -> tuple[list[Any], Any]:
        prediction = model.predict(arrays_of(signature, {"rows": rows}))
        return list(prediction.values), prediction.scores

    return ask
