"""A sweep of real jobs, with the trainer as processes that are killed in the middle of it."""

from datetime import timedelta
from typing import Any

from trainers_at_work import FEATURES, QUICK, Trainer, until

LOOSE = timedelta(seconds=180)
KILLS = 3
SWEEP: dict[str, Any] = {
    "job": {
        "dataset": "flights@3",
        "task": "classification",
        "target": "late",
        "features": FEATURES,
        "estimator": QUICK,
        "register": {"model": "delays"},
    },
    "space": {
        "max_depth": {"type": "int", "low": 1, "high": 6},
        "criterion": {"type": "categorical", "choices": ["gini", "entropy"]},
    },
    "objective": {"metric": "roc_auc"},
    "algorithm": {"method": "tpe", "startup": 3},
    "parallelism": 2,
    "budget": {"trials": 6},
}


def test_a_sweep_outlives_kills_and_its_best_becomes_a_model_version(trainer: Trainer) -> None:
    trainer.start()
    id = trainer.http.post("/v1/sweeps", json=SWEEP).json()["id"]

    def look() -> dict[str, Any]:
        found: dict[str, Any] = trainer.http.get(f"/v1/sweeps/{id}").json()
        return found

    for kill in range(KILLS):
        until(lambda least=kill: look()["counts"]["succeeded"] >= least, LOOSE)  # type: ignore[misc]
        trainer.kill("all")
        trainer.start("all")
    until(lambda: look()["status"]["phase"] != "running", LOOSE)
    sweep = look()
    assert sweep["status"]["phase"] == "succeeded", sweep
    assert [trial["number"] for trial in sweep["trials"]] == list(range(6))
    assert {trial["phase"] for trial in sweep["trials"]} == {"succeeded"}
    best = max(sweep["trials"], key=lambda trial: (trial["value"], -trial["number"]))
    assert sweep["best"]["number"] == best["number"]
    jobs = trainer.http.get("/v1/jobs", params={"page_size": 100}).json()["items"]
    assert {job["id"] for job in jobs} == {trial["job"] for trial in sweep["trials"]}
    assert all(job["model"] is None for job in jobs)
    [version] = trainer.neighbours.models["delays"]
    assert sweep["model"] == {"name": "delays", "version": 1, "digest": version["digest"]}
    assert version["manifest"]["lineage"]["job"] == best["job"]
    assert sweep["core_hours"] > 0
