"""How projects share what there is: secrets, quotas, and what was used."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from trainyard.sharing_results import Quota, Secret, Usage
from trainyard.wire import Wire


class Secrets:
    """Named values that programs of jobs are told, and nobody else."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def put(self, name: str, value: str) -> Secret:
        """Set it. Attempts that begin from now on are told the new value."""
        return Secret.of(self._wire.request("PUT", f"/v1/secrets/{name}", json={"value": value}).json())

    def list(self) -> Iterator[Secret]:
        """All of the project, without their values."""
        return map(Secret.of, self._wire.pages("/v1/secrets"))

    def get(self, name: str) -> Secret:
        """What is known of it: never its value."""
        return Secret.of(self._wire.get(f"/v1/secrets/{name}"))

    def delete(self, name: str) -> None:
        """Forget it."""
        self._wire.delete(f"/v1/secrets/{name}")


class Quotas:
    """What projects may have at one time, and spend in a period."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def get(self, project: str) -> Quota:
        """The project's limits, and what is taken of them."""
        return Quota.of(self._wire.get(f"/v1/quotas/{project}"))

    def list(self) -> Iterator[Quota]:
        """One's own project's; for an operator those of all."""
        return map(Quota.of, self._wire.pages("/v1/quotas"))

    def put(self, project: str, limits: Mapping[str, Any]) -> Quota:
        """Set all of it: cpu, memory, gpu, jobs, priority, budget. What is left out is without limit."""
        return Quota.of(self._wire.put(f"/v1/quotas/{project}", dict(limits)))


def usage(
    wire: Wire, *, first: date | None = None, last: date | None = None, by: str = "day", project: str | None = None
) -> Usage:
    """What a project's jobs took on these days: this month, unless said otherwise."""
    said = {"first": first and first.isoformat(), "last": last and last.isoformat(), "by": by, "project": project}
    return Usage.of(wire.get("/v1/usage", {name: value for name, value in said.items() if value is not None}))
