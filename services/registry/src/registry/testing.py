"""What the tests of the registry, and of those who talk to it, share. Nothing in production imports it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2

Headers = Callable[..., dict[str, str]]
"""Of the fixture `headers`: what a request says of its caller."""
FILE = b"the bytes of a model"
JOB = "018f0000-0000-7000-8000-000000000001"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def file_of(data: bytes, format: str = "skops") -> dict[str, Any]:
    return {"format": format, "path": f"model.{format}", "digest": digest_of(data), "size": len(data)}


def twin(*, kept: bool) -> dict[str, Any]:
    difference = 5e-7 if kept else None
    return {"kept": kept, "reason": "It was compared.", "tolerance": 1e-5, "max_difference": difference}


def manifest_of(*files: bytes, **changes: Any) -> dict[str, Any]:
    """What the trainer tells of a model: a skops file and, with two files, its twin."""
    made = files or (FILE,)
    formats = [file_of(data, format) for data, format in zip(made, ("skops", "onnx"), strict=False)]
    return {
        "formats": formats,
        "signature": {
            "inputs": [{"name": "carrier", "type": "string", "nullable": True}],
            "outputs": [
                {"name": "label", "type": "boolean", "nullable": False},
                {"name": "score", "type": "number", "nullable": False},
            ],
            "task": "classification",
            "classes": [False, True],
        },
        "task": "classification",
        "parameters": {"estimator": {"class": "sklearn.linear_model.LogisticRegression", "parameters": {"C": 1.0}}},
        "metrics": {"roc_auc": 0.736},
        "lineage": {
            "dataset": "flights@3",
            "dataset_digest": digest_of(b"flights"),
            "job": JOB,
            "attempt": 1,
            "code_digest": digest_of(b"code"),
            "environment": {"python": "3.11.7", "scikit-learn": "1.9.1"},
        },
        "twin": twin(kept=len(made) == 2),
        "input_example": [{"carrier": "UA"}, {"carrier": None}],
    } | changes


@dataclass(frozen=True)
class Trainer:
    """The trainer at the registry's internal routes."""

    http: httpx2.AsyncClient

    async def upload(self, data: bytes = FILE, digest: str | None = None) -> httpx2.Response:
        return await self.http.put(f"/internal/v1/blobs/{digest or digest_of(data)}", content=data)

    async def register(self, model: str = "flight-delays", **changes: Any) -> httpx2.Response:
        """A version of the file that `upload` sends; another `seed` is another version."""
        seed = changes.pop("seed", None)
        if seed is not None:
            changes["parameters"] = {"seed": seed}
        manifest = changes.pop("manifest", None) or manifest_of(**changes)
        return await self.http.put(f"/internal/v1/models/{model}/versions", json=manifest)

    async def make(self, *seeds: int, model: str = "flight-delays") -> list[dict[str, Any]]:
        """Versions that differ in their seeds."""
        assert (await self.upload()).status_code == 200
        made = [await self.register(model, seed=seed) for seed in seeds or (0,)]
        assert [answer.status_code for answer in made] == [201] * len(made)
        return [answer.json() for answer in made]


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    """A problem as (status, code)."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]
