"""The inference protocol's own client gets what everybody gets. `make test` makes it an environment of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from clients_of_others import python_of, rows, run
from suites_at_work import Suite
from worlds import World

from models.rows import arrays_of
from models.signature import Signature
from models.skops_models import SkopsModel
from trainyard import Client

INSTEAD = 7.5
"""For what is missing, where JSON has to say it: it has no NaN."""


def test_triton_rows_and_the_estimator_agree(shared_suite: Suite, world: World, tmp_path: Path) -> None:
    python_of("triton")
    with shared_suite.client() as client:
        assert client.runs.wait(world.start(client, seed=1).id).phase == "succeeded"
        asked = rows()
        whole = [{name: INSTEAD if value is None else value for name, value in row.items()} for row in asked]
        client.models.download(world.name, 1, tmp_path)
        estimator = _estimator(client, world, tmp_path)
        plain = [client.predict(world.name, them).predictions for them in (asked, whole)]
        found = _triton(client, world, asked)
    binary, text = found["answers"]
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
    _about(found["about"], world.name)
    for name, words in (("nobody", "nobody"), ("no inputs", "nobody"), ("tracing", "nothing here")):
        assert found["refused"][name][0] == "404"
        assert words in found["refused"][name][1]
    assert found["refused"]["shared memory"][0] == "404"


def _about(said: dict[str, Any], name: str) -> None:
    assert said["server"]["name"] == "trainyard"
    assert {"model_configuration", "model_repository", "statistics"} <= set(said["server"]["extensions"])
    assert (said["model"]["name"], said["model"]["versions"]) == (name, ["1"])
    assert said["config"] == said["config of 1"]
    assert (said["config"]["name"], said["config"]["max_batch_size"]) == (name, 10_000)
    assert {it["name"] for it in said["config"]["input"]} == {it["name"] for it in said["model"]["inputs"]}
    [stats] = said["stats"]["model_stats"]
    assert stats["version"] == "1"
    # Copies of serving count for themselves; this one has answered something of what was asked above.
    assert stats["inference_count"] % 50 == 0
    assert [it["name"] for it in said["stats of 1"]["model_stats"]] == [name]
    assert name in {it["name"] for it in said["all stats"]["model_stats"]}
    ready = {"name": name, "version": "1", "state": "READY", "reason": ""}
    assert ready in said["index"]


def _truth(value: object) -> bool:
    return str(value).lower() in ("true", "1", "b'true'")


def _triton(client: Client, world: World, asked: list[dict[str, Any]]) -> dict[str, Any]:
    columns = {name: [row[name] for row in asked] for name in asked[0]}
    order = {
        "netloc": client.url.removeprefix("http://"),
        "authorization": client._http.headers["authorization"],
        "model": world.name,
        "columns": columns,
        "instead": INSTEAD,
    }
    found: dict[str, Any] = run("triton", "triton_client.py", order)
    return found


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
