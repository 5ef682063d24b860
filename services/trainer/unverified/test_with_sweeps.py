"""A sweep of real jobs, with the trainer as processes that are killed in the middle of it."""

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from trainers_at_work import FEATURES, QUICK, Json, Trainer, until

LOOSE = timedelta(seconds=180)
POINTS = ("trainer.sweep_recorded.before_commit", "trainer.sweep_recorded.after_commit")
NONE: Json = {"status": {"phase": "running"}, "counts": {"succeeded": 0}}
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


def test_a_sweep_outlives_kills_and_its_best_becomes_a_model_version(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fired = tmp_path / "fired"
    fired.mkdir()
    monkeypatch.setenv("TRAINYARD_FAILPOINTS", ",".join(f"{name}=kill" for name in POINTS))
    monkeypatch.setenv("TRAINYARD_FAILPOINTS_DIR", str(fired))
    trainer.start()

    def ask(verb: str, path: str, **given: Any) -> Json | None:
        """None: the trainer has died, and is started again, or does not answer yet."""
        if trainer.processes["all"].poll() is not None:
            trainer.start("all", waits=False)
        try:
            answer = trainer.http.request(verb, path, **given)
        except httpx2.TransportError:
            return None
        return cast(Json, answer.json()) if answer.is_success else None

    key = {"idempotency-key": "the sweep"}
    id = (until(lambda: ask("POST", "/v1/sweeps", json=SWEEP, headers=key), LOOSE) or {})["id"]

    until(lambda: (ask("GET", f"/v1/sweeps/{id}") or NONE)["counts"]["succeeded"] >= 2, LOOSE)
    trainer.kill("all")
    trainer.start("all")
    until(lambda: (ask("GET", f"/v1/sweeps/{id}") or NONE)["status"]["phase"] != "running", LOOSE)
    assert {path.stem for path in fired.iterdir()} == set(POINTS)
    sweep = ask("GET", f"/v1/sweeps/{id}") or NONE
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
