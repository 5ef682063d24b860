"""Things as the suite answers them."""

from typing import Any

DIGEST = "sha256:" + "ab" * 32
MADE = "2026-11-24T10:00:00Z"


def status(phase: str, message: str = "") -> dict[str, Any]:
    return {"phase": phase, "reason": "", "message": message}


def version(number: int = 1, phase: str = "ready", message: str = "") -> dict[str, Any]:
    return {
        "dataset": "flights",
        "version": number,
        "digest": DIGEST if phase == "ready" else None,
        "status": status(phase, message),
        "schema": [{"name": "carrier", "type": "string"}, {"name": "late", "type": "boolean"}],
        "rows": 327_346,
        "rejected": 9_430,
        "rows_in": 336_776,
        "splits": {"train": 254_224, "held_out": 73_122},
        "created_at": MADE,
        "finished_at": None,
    }


def job(phase: str = "succeeded", message: str = "") -> dict[str, Any]:
    return {
        "id": "j1",
        "dataset": "flights@1",
        "dataset_digest": DIGEST,
        "task": "classification",
        "target": "late",
        "status": status(phase, message),
        "attempt": 1,
        "metrics": {"roc_auc": 0.736, "baseline_roc_auc": 0.669},
        "model": {"name": "flight-delays", "version": 1, "digest": DIGEST},
        "created_at": MADE,
    }


def batch(phase: str = "succeeded", done: int = 450, message: str = "") -> dict[str, Any]:
    return {
        "id": "b1",
        "deployment": "flight-delays",
        "revision": 1,
        "targets": [],
        "dataset": "flights@1",
        "dataset_digest": DIGEST,
        "output": "answers",
        "status": status(phase, message),
        "progress": {"rows": 1450, "rows_done": done, "refused": 2},
        "result": {"dataset": "answers@1", "digest": DIGEST} if phase == "succeeded" else None,
        "created_at": MADE,
    }


def model_version(number: int = 1, content: str = DIGEST) -> dict[str, Any]:
    return {
        "model": "flight-delays",
        "version": number,
        "digest": DIGEST,
        "formats": [{"format": "skops", "path": "model.skops", "digest": content, "size": 5}],
        "signature": {"inputs": [{"name": "carrier", "type": "string"}], "outputs": []},
        "lineage": {"dataset": "flights@1", "job": "j1"},
        "metrics": {"roc_auc": 0.736},
        "twin": {"kept": False, "reason": "labels differ"},
        "created_at": MADE,
    }


def deployment(phase: str = "ready", serves: int = 1, generation: int = 1) -> dict[str, Any]:
    return {
        "name": "flight-delays",
        "models": [{"model": "flight-delays@champion", "weight": 100}],
        "generation": generation,
        "status": {**status(phase), "observed_generation": 1},
        "revision": {"id": "r1", "targets": [{"model": "flight-delays", "version": serves, "weight": 100}]},
        "created_at": MADE,
        "updated_at": MADE,
    }


def step(name: str, phase: str, **more: Any) -> dict[str, Any]:
    message = more.pop("message", "")
    return {"name": name, "kind": name, "status": status(phase, message), "attempt": 1, "outputs": None, **more}


def run(phase: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "r1",
        "pipeline": "flight-delays",
        "status": status(phase),
        "steps": list(steps),
        "parameters": {},
        "created_at": MADE,
    }


def page(*items: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    return {"items": list(items), "next_page_token": token}
