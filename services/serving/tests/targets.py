"""Targets as revisions have them, of no real model."""

from typing import Any

from serving.domain.revisions import File, Target

INPUTS = [{"name": "carrier", "type": "string", "nullable": True}]
SIGNATURE = {
    "inputs": INPUTS,
    "outputs": [{"name": "value", "type": "number", "nullable": False}],
    "task": "regression",
    "classes": [],
}


def digest(digit: str = "a") -> str:
    return "sha256:" + digit * 64


def target(version: int = 1, weight: int = 100, **changes: Any) -> Target:
    values: dict[str, Any] = {
        "model": "late",
        "version": version,
        "digest": digest(),
        "weight": weight,
        "file": File("onnx", "model.onnx", digest("b"), 10),
        "signature": SIGNATURE,
        "example": ({"carrier": "UA"},),
    }
    return Target(**values | changes)
