"""Sweeps: the same job again and again with other parameters."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from trainyard.sweep_results import Sweep
from trainyard.wire import Wire

FINAL = frozenset({"succeeded", "failed", "cancelled"})


class Sweeps:
    """What finds good parameters."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, spec: Mapping[str, Any]) -> Sweep:
        """Start a sweep: job (as of `jobs.create`), space, objective, algorithm, pruning, parallelism, budget …"""
        return Sweep.of(self._wire.request("POST", "/v1/sweeps", json=dict(spec)).json())

    def list(self) -> Iterator[Sweep]:
        """All of the project, newest first, without their trials."""
        return map(Sweep.of, self._wire.pages("/v1/sweeps"))

    def get(self, id: str) -> Sweep:
        """One by its id, with its trials."""
        return Sweep.of(self._wire.get(f"/v1/sweeps/{id}"))

    def wait(self, id: str, timeout: timedelta | None = None) -> Sweep:
        """The sweep once it is over."""
        return Sweep.of(self._wire.await_done(f"/v1/sweeps/{id}", _is_final, timeout))

    def cancel(self, id: str) -> Sweep:
        """Ask it and its trials to stop."""
        return Sweep.of(self._wire.request("POST", f"/v1/sweeps/{id}/cancel").json())

    def delete(self, id: str) -> None:
        """Forget a sweep that is over; its jobs stay."""
        self._wire.delete(f"/v1/sweeps/{id}")


def _is_final(sweep: Mapping[str, Any]) -> bool:
    return sweep["status"]["phase"] in FINAL
