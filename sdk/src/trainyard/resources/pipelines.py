"""Pipelines, and their runs."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from trainyard.results import Pipeline, Run
from trainyard.wire import Wire

FINAL = frozenset({"succeeded", "failed", "cancelled"})


class Pipelines:
    """Definitions: steps that depend on each other."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def put(self, name: str, definition: str | Mapping[str, Any]) -> Pipeline:
        """Create or change, from YAML or a mapping; an error names its place."""
        return Pipeline.of(self._wire.put(f"/v1/pipelines/{name}", definition, text_type="application/yaml"))

    def list(self) -> Iterator[Pipeline]:
        """All of the project."""
        return map(Pipeline.of, self._wire.pages("/v1/pipelines"))

    def get(self, name: str) -> Pipeline:
        """One by name."""
        return Pipeline.of(self._wire.get(f"/v1/pipelines/{name}"))

    def delete(self, name: str) -> None:
        """Delete the definition."""
        self._wire.delete(f"/v1/pipelines/{name}")

    def run(self, name: str, parameters: Mapping[str, Any] | None = None) -> Run:
        """Start a run; steps that would do again what was done are reused."""
        body = {"parameters": dict(parameters or {})}
        return Run.of(self._wire.request("POST", f"/v1/pipelines/{name}/runs", json=body).json())


class Runs:
    """Executions of pipelines."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def list(self, pipeline: str | None = None) -> Iterator[Run]:
        """All of the project or of one pipeline, newest first."""
        return map(Run.of, self._wire.pages("/v1/runs", {"pipeline": pipeline}))

    def get(self, id: str) -> Run:
        """One by its id, with its steps."""
        return Run.of(self._wire.get(f"/v1/runs/{id}"))

    def wait(self, id: str, timeout: timedelta | None = None) -> Run:
        """The run once it is over."""
        done = self._wire.await_done(f"/v1/runs/{id}", lambda run: run["status"]["phase"] in FINAL, timeout)
        return Run.of(done)

    def cancel(self, id: str) -> Run:
        """Ask it to stop."""
        return Run.of(self._wire.request("POST", f"/v1/runs/{id}/cancel").json())

    def resume(self, id: str) -> Run:
        """Go on from the step that failed."""
        return Run.of(self._wire.request("POST", f"/v1/runs/{id}/resume").json())

    def delete(self, id: str) -> None:
        """Delete a run that is over."""
        self._wire.delete(f"/v1/runs/{id}")
