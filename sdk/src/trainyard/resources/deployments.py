"""Deployments: names that answer predictions."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from trainyard.results import Answer, Deployment
from trainyard.wire import Wire

FINAL = frozenset({"ready", "failed"})


class Deployments:
    """What serves models."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def put(self, name: str, model: str | Sequence[Mapping[str, Any]]) -> Deployment:
        """Create or change: a reference such as `flight-delays@champion`, or several, each with its weight."""
        body = {"model": model} if isinstance(model, str) else {"models": [dict(part) for part in model]}
        return Deployment.of(self._wire.put(f"/v1/deployments/{name}", body))

    def list(self) -> Iterator[Deployment]:
        """All of the project."""
        return map(Deployment.of, self._wire.pages("/v1/deployments"))

    def get(self, name: str) -> Deployment:
        """One by name."""
        return Deployment.of(self._wire.get(f"/v1/deployments/{name}"))

    def wait(self, name: str, timeout: timedelta | None = None) -> Deployment:
        """The deployment once what was asked for last is ready, or failed."""
        return Deployment.of(self._wire.await_done(f"/v1/deployments/{name}", _is_settled, timeout))

    def delete(self, name: str) -> None:
        """Stop serving."""
        self._wire.delete(f"/v1/deployments/{name}")

    def predict(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]],
        columns: Sequence[str] | None = None,
    ) -> Answer:
        """Predict rows: objects, or arrays together with the names of their columns."""
        body: dict[str, Any] = {"rows": list(rows)}
        if columns is not None:
            body["columns"] = list(columns)
        return Answer.of(self._wire.request("POST", f"/v1/deployments/{name}/predict", json=body).json())


def _is_settled(deployment: Mapping[str, Any]) -> bool:
    status = deployment["status"]
    observed = status.get("observed_generation", deployment.get("generation"))
    return status["phase"] in FINAL and observed == deployment.get("generation")
