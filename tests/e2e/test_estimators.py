"""Estimators of three kinds are trained, registered and served, and each answers over HTTP as it does by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clients_of_others import rows
from suites_at_work import Suite
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it publishes no types
from worlds import World, patiently, rows_of

from models.rows import arrays_of
from models.signature import Signature
from models.skops_models import SkopsModel
from trainyard import Client
from trainyard.errors import Invalid

TREE = {"class": "sklearn.tree.DecisionTreeClassifier", "parameters": {"max_depth": 4}}
LOGISTIC = {"class": "sklearn.linear_model.LogisticRegression"}
VOTING = {
    "class": "sklearn.ensemble.VotingClassifier",
    "parameters": {"voting": "soft", "estimators": [TREE, LOGISTIC]},
}
JOBS: dict[str, dict[str, Any]] = {
    "labels": {"estimator": {"class": "sklearn.svm.LinearSVC"}, "served": {"onnx", "skops"}, "answers": {"label"}},
    "votes": {"estimator": VOTING, "served": {"onnx", "skops"}, "answers": {"label", "score"}},
    "near": {
        "estimator": {"class": "sklearn.neighbors.KNeighborsRegressor"},
        "task": "regression",
        "target": "hour",
        "features": ["day", "carrier", "wind"],
        "served": {"skops"},
        "answers": {"value"},
    },
}


def test_estimators_answer_over_http_as_they_do_by_themselves(
    shared_suite: Suite, world: World, tmp_path: Path
) -> None:
    with shared_suite.client() as client:
        dataset = _dataset(client, world)
        started = {name: client.jobs.create(_job(world, dataset, name, said)) for name, said in JOBS.items()}
        for name, said in JOBS.items():
            job = client.jobs.wait(started[name].id)
            assert job.phase == "succeeded", job.raw
            model = f"{world.name}-{name}"
            client.deployments.put(model, f"{model}@1")
            client.deployments.wait(model)
            asked = [{key: row[key] for key in _features(said)} for row in rows()]
            answers = client.predict(model, asked).predictions
            assert [set(answer) for answer in answers] == [said["answers"]] * len(asked)
            _compare(client, model, asked, answers, said, tmp_path / name)


def test_an_estimator_that_is_left_out_is_answered_with_what_to_use_instead(shared_suite: Suite, world: World) -> None:
    with shared_suite.client() as client, pytest.raises(Invalid) as caught:
        client.jobs.create(_job(world, "rows@1", "groups", {"estimator": {"class": "sklearn.cluster.KMeans"}}))
    assert "without a target" in str(caught.value.errors)


def _dataset(client: Client, world: World) -> str:
    definition = world.pipeline()
    definition["steps"] = {"ingest": definition["steps"]["ingest"]}
    upload = patiently(lambda: client.uploads.create(rows_of(3))).upload
    client.pipelines.put(world.name, definition)
    assert client.runs.wait(client.pipelines.run(world.name, {"upload": upload}).id).phase == "succeeded"
    return f"{world.dataset}@1"


def _features(said: dict[str, Any]) -> list[str]:
    return list(said.get("features", ["day", "hour", "carrier", "wind"]))


def _job(world: World, dataset: str, name: str, said: dict[str, Any]) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "task": said.get("task", "classification"),
        "target": said.get("target", "late"),
        "features": _features(said),
        "estimator": said["estimator"],
        "seed": 0,
        "register": {"model": f"{world.name}-{name}"},
    }


def _compare(
    client: Client, name: str, asked: list[dict[str, Any]], answers: Any, said: dict[str, Any], folder: Path
) -> None:
    version = client.models.version(name)
    assert {file["format"] for file in version.formats} == said["served"], version.raw
    folder.mkdir()
    client.models.download(name, 1, folder)
    signature = Signature.from_json(dict(version.signature))
    path = next(str(file["path"]) for file in version.formats if file["format"] == "skops")
    itself = SkopsModel((folder / path).read_bytes(), signature)
    with threadpool_limits(1):  # as a runner child: of neighbours that are equally near, two threads find others
        expected = signature.answers_of(itself.predict(arrays_of(signature, {"rows": asked})))
    for key in said["answers"]:
        values, wanted = ([row[key] for row in them] for them in (answers, expected))
        if key == "label" or said["served"] == {"skops"}:
            assert values == wanted
        else:
            np.testing.assert_allclose(values, wanted, atol=1e-5)
