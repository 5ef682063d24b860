"""Which models answer under which names, right now: what requests look at, and the replica's loop writes."""

import time
import uuid
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from kit import errors
from models.signature import Arrays, Prediction
from serving.domain.deployments import DeploymentNotFound
from serving.domain.desired import Desired
from serving.domain.revisions import Target
from serving.domain.shares import choose
from serving.replica.lanes import Lane, require_time
from serving.replica.residents import Asleep, Here, Resident
from serving.replica.tallies import Tally

SECONDS = Histogram(
    "trainyard_predict_seconds",
    "From the read body to the answer, by who answered.",
    ["project", "deployment", "revision"],
    buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
ROWS = Counter("trainyard_predicted_rows_total", "Rows answered.", ["project", "deployment", "revision"])
REFUSED = Counter("trainyard_predict_refused_total", "Predictions not made.", ["project", "deployment", "revision"])
SERVED = Gauge("trainyard_served_revisions", "Revisions that answer in this process.")


class ModelNotReady(errors.Unavailable):
    """The deployment is known, and its models are not loaded here yet."""


class VersionNotServed(errors.NotFound):
    """The deployment does not serve this version of its model."""


@dataclass(frozen=True)
class Answering:
    """One model of a live revision."""

    target: Target
    resident: Resident
    tally: Tally = field(default_factory=Tally, compare=False)
    lane: Lane | None = field(default=None, compare=False)
    """The deployment's own queue in front of the resident, which others may ask too."""

    async def admit(self, until: float | None) -> None:
        """Have a request go on to be read: in its turn, where all of it is done on the loop.

        Raises:
            Overloaded: it would not be answered before `until`, or within the patience with who does not say it.
            DeadlineExceeded: its turn has come too late.
        """
        if self.lane is None:
            return
        if not self.resident.is_quick(1):
            self.lane.admit(1, until)
        elif (pace := self.resident.pace) is not None:
            await pace.turn()
            require_time(until)

    def refusal(self, until: float | None) -> errors.Error | None:
        """What `admit` would raise at once, without a request to raise it for."""
        if self.lane is None:
            return None
        if not self.resident.is_quick(1):
            return self.lane.refusal(1, until)
        return None if self.resident.pace is None else self.resident.pace.refusal()

    def is_free(self) -> bool:
        """Whether one row would be answered on the loop, without waiting for it to come round."""
        resident = self.resident
        return isinstance(resident, Here) and resident.is_quick(1) and resident.pace.is_free()

    def at_once(self, arrays: Arrays, rows: int) -> Prediction | None:
        """The answers, in a turn that is taken; None: not without waiting."""
        resident = self.resident
        if not isinstance(resident, Here) or not resident.is_quick(rows) or not resident.pace.take():
            return None
        return resident.answer(arrays)

    def predict(self, arrays: Arrays, rows: int, until: float | None = None) -> Coroutine[Any, Any, Prediction]:
        """The answers: at once where that is quick, or else when the deployment's turn comes."""
        if self.lane is None or self.resident.is_quick(rows):
            return self.resident.predict(arrays, rows)
        return self.lane.predict(arrays, rows, until)


@dataclass(frozen=True)
class Live:
    """A revision that answers."""

    desired: Desired
    answering: tuple[Answering, ...]
    began_at: float = field(default_factory=time.time, compare=False)
    weights: tuple[int, ...] = field(init=False)
    labels: tuple[str, str, str] = field(init=False)
    """Of its metrics, which are looked up once: a look-up for each request costs what a small model costs."""
    seconds: Histogram = field(init=False)
    rows: Counter = field(init=False)
    refused: Counter = field(init=False)

    def __post_init__(self) -> None:
        labels = (self.desired.project, self.desired.name, str(self.desired.revision))
        made: dict[str, object] = {"labels": labels, "weights": tuple(one.target.weight for one in self.answering)}
        made |= {"seconds": SECONDS.labels(*labels), "rows": ROWS.labels(*labels), "refused": REFUSED.labels(*labels)}
        for name, value in made.items():
            object.__setattr__(self, name, value)

    @property
    def is_lost(self) -> bool:
        """Whether one of its models has to be loaded anew."""
        return any(one.resident.is_lost for one in self.answering)

    @property
    def is_asleep(self) -> bool:
        """Whether its models were given up: they come back when they are asked."""
        return any(isinstance(one.resident, Asleep) for one in self.answering)

    @property
    def used_at(self) -> float:
        """When it was asked last, or else began to answer, in seconds since 1970."""
        return max(self.began_at, *(one.tally.last_at for one in self.answering), 0.0)

    @property
    def only(self) -> Answering | None:
        """Who answers every request, if that is one."""
        return self.answering[0] if len(self.answering) == 1 else None

    def choose(self, request_id: str) -> Answering:
        """Who answers this request, by weight."""
        return self.answering[choose(self.weights, request_id)]

    def of_version(self, version: str) -> Answering:
        """
        Raises:
            VersionNotServed: none of the models is of this version.
        """
        for one in self.answering:
            if str(one.target.version) == version:
                return one
        raise VersionNotServed(f"Deployment {self.desired.name} does not serve version {version[:100]}.")


class Table:
    """Looked up by the project of the caller and the deployment's name."""

    def __init__(self) -> None:
        self._live: dict[tuple[str, str], Live] = {}
        self._by_id: dict[uuid.UUID, Live] = {}
        self._known: set[tuple[str, str]] = set()
        self.is_informed = False
        """Whether this process ever heard what it is to serve."""

    def __iter__(self) -> Iterator[Live]:
        return iter(self._live.values())

    def find(self, project: str, name: str) -> Live:
        """
        Raises:
            DeploymentNotFound: the project has none of that name.
            ModelNotReady: it has, and nothing of it is loaded here yet.
        """
        live = self._live.get((project, name))
        if live is not None:
            return live
        if not self.is_informed or (project, name) in self._known:
            raise ModelNotReady(f"Deployment {name[:100]} is not loaded yet.", retry_after=timedelta(seconds=1))
        raise DeploymentNotFound(f"There is no deployment {name[:100]}.")

    def seen(self, project: str, name: str) -> Live | None:
        """What answers under this name here, if anything does."""
        return self._live.get((project, name))

    def of(self, deployment: uuid.UUID) -> Live | None:
        """What answers for a deployment."""
        return self._by_id.get(deployment)

    def know(self, desired: list[Desired]) -> None:
        """These are all there are."""
        self._known = {(it.project, it.name) for it in desired}
        self.is_informed = True

    def put(self, live: Live) -> None:
        """From now on requests meet this revision; those under way finish with the one before."""
        key = (live.desired.project, live.desired.name)
        before = self._live.get(key)
        if before is not None:
            self._by_id.pop(before.desired.deployment, None)
        self._live[key] = self._by_id[live.desired.deployment] = live
        if before is not None and before.labels != live.labels:
            _forget(before)
        SERVED.set(len(self._live))

    def drop(self, live: Live) -> None:
        """Nothing answers there any more."""
        del self._live[(live.desired.project, live.desired.name)]
        self._by_id.pop(live.desired.deployment, None)
        _forget(live)
        SERVED.set(len(self._live))


def _forget(live: Live) -> None:
    # Series of revisions that are gone would grow without end.
    for metric in (SECONDS, ROWS, REFUSED):
        metric.remove(*live.labels)
