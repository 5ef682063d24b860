"""A small dataset, and what is made of it."""

from typing import Any

import httpx2

CSV = b"day,carrier,distance,late\n" + b"".join(
    b"%d,%s,%d,%s\n" % (n % 7, (b"AA", b"UA")[n % 2], 100 + n, (b"true", b"false")[n % 3 == 0]) for n in range(60)
)
SETTINGS: dict[str, Any] = {
    "key": [],
    "split": {"by": ["day"], "held_out": 0.3, "seed": 0},
    "checks": [{"column": "late", "check": "not_null"}],
}
JOB: dict[str, Any] = {
    "dataset": "flights",
    "task": "classification",
    "target": "late",
    "estimator": {"class": "sklearn.linear_model.LogisticRegression"},
    "register": {"model": "flight-delays"},
}


async def make_flights(user: httpx2.AsyncClient) -> dict[str, Any]:
    """Version 1 of the dataset `flights`, ready. Ingest's loops must run."""
    made = await user.post("/v1/datasets", json={"name": "flights", "settings": SETTINGS})
    assert made.status_code == 201, made.text
    sent = await user.post("/v1/datasets/flights/versions", content=CSV, headers={"content-type": "text/csv"})
    assert sent.status_code == 202, sent.text
    version: dict[str, Any] = (await user.get("/v1/datasets/flights/versions/1", params={"wait": "30s"})).json()
    assert version["status"]["phase"] == "ready", version
    return version
