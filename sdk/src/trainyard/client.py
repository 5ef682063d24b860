"""The client: one connection pool, and the nouns of the suite as attributes."""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from trainyard.config import find_credentials
from trainyard.resources.access import Keys, Projects
from trainyard.resources.datasets import Datasets, Uploads
from trainyard.resources.deployments import Deployments
from trainyard.resources.jobs import Jobs
from trainyard.resources.models import Models
from trainyard.resources.pipelines import Pipelines, Runs
from trainyard.results import Answer
from trainyard.wire import Wire

TIMEOUT = timedelta(seconds=60)  # of silence, and more than the longest long poll
CONNECT = 5.0
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Client:
    """Trainyard, as one caller in one project.

    Where and as whom: the arguments, then TRAINYARD_URL and TRAINYARD_API_KEY, then the `credentials.json` that
    `trainyard up` wrote to $TRAINYARD_HOME (~/.trainyard).
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: timedelta = TIMEOUT,
        transport: httpx2.BaseTransport | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        credentials = find_credentials(os.environ if environment is None else environment, url, api_key)
        self.url = credentials.url.rstrip("/")
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {credentials.api_key}", "User-Agent": "trainyard-python"},
            timeout=httpx2.Timeout(timeout.total_seconds(), connect=CONNECT),
            transport=transport,
            # A proxy for the outside cannot reach this machine's loopback.
            trust_env=urlsplit(self.url).hostname not in LOOPBACK,
        )
        wire = Wire(self._http)
        self._wire = wire
        self.uploads = Uploads(wire)
        self.datasets = Datasets(wire, self.uploads)
        self.jobs = Jobs(wire)
        self.models = Models(wire)
        self.deployments = Deployments(wire)
        self.pipelines = Pipelines(wire)
        self.runs = Runs(wire)
        self.keys = Keys(wire)
        self.projects = Projects(wire)

    def predict(
        self,
        deployment: str,
        rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]],
        columns: Sequence[str] | None = None,
    ) -> Answer:
        """Short for `deployments.predict`."""
        return self.deployments.predict(deployment, rows, columns)

    def whoami(self) -> dict[str, Any]:
        """The caller: project, subject, role and scopes."""
        caller: dict[str, Any] = self._wire.get("/v1/whoami")
        return caller

    def status(self) -> dict[str, Any]:
        """The services, and whether each is ready."""
        services: dict[str, Any] = self._wire.get("/v1/status")
        return services

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
