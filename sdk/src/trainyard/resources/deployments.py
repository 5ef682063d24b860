"""Deployments: names that answer predictions."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from trainyard.results import Answer, Batch, Deployment, Later
from trainyard.wire import Wire

FINAL = frozenset({"ready", "failed"})
ENDED = frozenset({"succeeded", "failed", "cancelled"})


class Deployments:
    """What serves models."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def put(
        self,
        name: str,
        model: str | Sequence[Mapping[str, Any]],
        *,
        limits: Mapping[str, int | None] | None = None,
        pinned: bool | None = None,
    ) -> Deployment:
        """Create or change: a reference such as `flight-delays@champion`, or several, each with its weight.

        `limits` may be `concurrency` and `waiting` (requests, in each process) and `memory_bytes` (of each model). They
        take the place of all that were set; None leaves them, and `pinned`, as they are.
        """
        body: dict[str, Any] = {"model": model} if isinstance(model, str) else {"models": [dict(it) for it in model]}
        body |= {} if limits is None else {"limits": dict(limits)}
        body |= {} if pinned is None else {"pinned": pinned}
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
        body = _body_of(rows, columns)
        return Answer.of(self._wire.request("POST", f"/v1/deployments/{name}/predict", json=body).json())

    def predict_later(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]],
        columns: Sequence[str] | None = None,
    ) -> Later:
        """Hand rows over; once this returns they are answered, whatever is killed meanwhile."""
        body = _body_of(rows, columns)
        return Later.of(self._wire.request("POST", f"/v1/deployments/{name}/predictions", json=body).json())

    def answer(self, name: str, id: str, timeout: timedelta | None = None) -> Later:
        """What was handed over, once it is answered. Answers are kept for a day."""
        return Later.of(self._wire.await_done(f"/v1/deployments/{name}/predictions/{id}", _has_ended, timeout))

    def batch(
        self,
        name: str,
        dataset: str,
        output: str,
        *,
        split: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> Batch:
        """Ask about every row of a dataset version such as `flights@3`; the answers become a version of `output`.

        `columns` are those of the dataset that are carried over; by default all.
        """
        body: dict[str, Any] = {"dataset": dataset, "output": output, "split": split}
        body |= {} if columns is None else {"columns": list(columns)}
        return Batch.of(self._wire.request("POST", f"/v1/deployments/{name}/batches", json=body).json())

    def batches(self, name: str) -> Iterator[Batch]:
        """All of a deployment, the newest first."""
        return map(Batch.of, self._wire.pages(f"/v1/deployments/{name}/batches"))

    def get_batch(self, name: str, id: str) -> Batch:
        """One by its id."""
        return Batch.of(self._wire.get(f"/v1/deployments/{name}/batches/{id}"))

    def wait_batch(self, name: str, id: str, timeout: timedelta | None = None) -> Batch:
        """The batch once it is over."""
        return Batch.of(self._wire.await_done(f"/v1/deployments/{name}/batches/{id}", _has_ended, timeout))

    def cancel_batch(self, name: str, id: str) -> Batch:
        """Ask it to stop."""
        return Batch.of(self._wire.request("POST", f"/v1/deployments/{name}/batches/{id}/cancel").json())

    def delete_batch(self, name: str, id: str) -> None:
        """Delete a batch that is over; its result stays."""
        self._wire.delete(f"/v1/deployments/{name}/batches/{id}")


def _body_of(
    rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]], columns: Sequence[str] | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"rows": [*rows]}
    return body if columns is None else body | {"columns": [*columns]}


def _has_ended(thing: Mapping[str, Any]) -> bool:
    return thing["status"]["phase"] in ENDED


def _is_settled(deployment: Mapping[str, Any]) -> bool:
    status = deployment["status"]
    observed = status.get("observed_generation", deployment.get("generation"))
    return status["phase"] in FINAL and observed == deployment.get("generation")
