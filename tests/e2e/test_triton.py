"""The inference protocol's own client gets what everybody gets. `make test` makes it an environment of its own."""

import csv
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from suites_at_work import Suite
from worlds import World, rows_of

from models import formats
from models.rows import arrays_of
from models.signature import Signature
from models.skops_models import SkopsModel
from trainyard import Client

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".cache" / "triton" / "bin" / "python"
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
        plain = client.predict(world.name, asked)
        by_triton = _triton(client, world, asked)
        labels, scores = _estimator(client, world, asked, tmp_path)
    said = [
        next(value for key, value in row.items() if not isinstance(value, dict | float)) for row in plain.predictions
    ]
    assert [str(label).lower() for label in said] == [str(label).lower() for label in labels]
    for answer in by_triton:
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
    }
    done = subprocess.run(
        [str(PYTHON), str(PROGRAM)], input=json.dumps(order), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def _estimator(client: Client, world: World, asked: list[dict[str, Any]], folder: Path) -> tuple[list[Any], Any]:
    """The pipeline itself, downloaded and asked in this process."""
    version = client.models.version(world.name)
    client.models.download(world.name, 1, folder)
    signature = Signature.from_json(dict(version.signature))
    path = next(str(file["path"]) for file in version.formats if file["format"] == "skops")
    model = SkopsModel(formats.load((folder / path).read_bytes()), signature)
    prediction = model.predict(arrays_of(signature, {"rows": asked}))
    return list(prediction.values), prediction.scores
