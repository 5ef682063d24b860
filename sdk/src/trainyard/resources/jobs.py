"""Training jobs."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from trainyard import events
from trainyard.results import Job, LogLine, MetricPoint
from trainyard.wire import Wire

FINAL = frozenset({"succeeded", "failed", "cancelled"})


class Jobs:
    """What trains models."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, spec: Mapping[str, Any]) -> Job:
        """Start a job: dataset, task, target, features, estimator, preprocessing, seed, register …"""
        return Job.of(self._wire.request("POST", "/v1/jobs", json=dict(spec)).json())

    def list(self) -> Iterator[Job]:
        """All of the project, newest first."""
        return map(Job.of, self._wire.pages("/v1/jobs"))

    def get(self, id: str) -> Job:
        """One by its id."""
        return Job.of(self._wire.get(f"/v1/jobs/{id}"))

    def wait(self, id: str, timeout: timedelta | None = None) -> Job:
        """The job once it is over."""
        return Job.of(self._wire.await_done(f"/v1/jobs/{id}", _is_final, timeout))

    def logs(self, id: str, *, follow: bool = False) -> Iterator[LogLine]:
        """What it wrote; `follow` goes on until the job is over, across lost connections."""
        return map(LogLine.of, self._items(f"/v1/jobs/{id}/logs", follow))

    def metrics(self, id: str, *, follow: bool = False) -> Iterator[MetricPoint]:
        """What it measured."""
        return map(MetricPoint.of, self._items(f"/v1/jobs/{id}/metrics", follow))

    def cancel(self, id: str) -> Job:
        """Ask it to stop."""
        return Job.of(self._wire.request("POST", f"/v1/jobs/{id}/cancel").json())

    def delete(self, id: str) -> None:
        """Delete a job that is over."""
        self._wire.delete(f"/v1/jobs/{id}")

    def _items(self, path: str, follow: bool) -> Iterator[dict[str, Any]]:
        if not follow:
            return self._wire.pages(path)
        return (event.data for event in events.follow(self._wire, path) if isinstance(event.data, dict))


def _is_final(job: Mapping[str, Any]) -> bool:
    return job["status"]["phase"] in FINAL
