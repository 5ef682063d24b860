"""Which models answer under which names, right now: what requests look at, and the replica's loop writes."""

import time
import uuid
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from prometheus_client import Gauge

from kit import errors
from models.signature import Arrays, Prediction
from serving.domain.deployments import DeploymentNotFound
from serving.domain.desired import Desired
from serving.domain.revisions import Target
from serving.domain.shares import choose
from serving.replica.lanes import Lane, require_time
from serving.replica.residents import Asleep, Here, Resident
from serving.replica.tallies import Spent, Tally

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

    def __post_init__(self) -> None:
        if self.lane is not None:
            self.lane.tally = self.tally

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
        resident, pace = self.resident, self.resident.pace
        return isinstance(resident, Here) and pace is not None and resident.is_quick(1) and pace.is_free()

    def at_once(self, arrays: Arrays, rows: int, spent: Spent) -> Prediction | None:
        """The answers, in a turn that is taken; None: not without waiting."""
        resident, pace = self.resident, self.resident.pace
        if not isinstance(resident, Here) or pace is None or not resident.is_quick(rows) or not pace.take():
            return None
        began = time.perf_counter()
        prediction = resident.answer(arrays)
        self._computed(rows, time.perf_counter() - began, spent)
        return prediction

    def predict(
        self, arrays: Arrays, rows: int, until: float | None = None, spent: Spent | None = None
    ) -> Coroutine[Any, Any, Prediction]:
        """The answers: at once where that is quick, or else when the deployment's turn comes.

        Into `spent` is written where the time went.
        """
        spent = spent or Spent()
        if self.lane is None or self.resident.is_quick(rows):
            return self._directly(arrays, rows, spent)
        return self.lane.predict(arrays, rows, until, spent)

    async def _directly(self, arrays: Arrays, rows: int, spent: Spent) -> Prediction:
        began = time.perf_counter()
        prediction = await self.resident.predict(arrays, rows)
        seconds = time.perf_counter() - began
        if isinstance(self.resident, Asleep):
            spent.queue += seconds  # most of it for the model to come back, which counts what it answers then
        else:
            self._computed(rows, seconds, spent)
        return prediction

    def _computed(self, rows: int, seconds: float, spent: Spent) -> None:
        spent.compute, spent.batch = seconds, rows
        self.tally.executed(1, rows, seconds)


@dataclass(frozen=True)
class Live:
    """A revision that answers."""

    desired: Desired
    answering: tuple[Answering, ...]
    began_at: float = field(default_factory=time.time, compare=False)
    weights: tuple[int, ...] = field(init=False)
    labels: tuple[str, str, str] = field(init=False)
    """Of its metrics."""

    def __post_init__(self) -> None:
        labels = (self.desired.project, self.desired.name, str(self.desired.revision))
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "weights", tuple(one.target.weight for one in self.answering))

    def after(self, before: "Live | None") -> "Live":
        """The same, which goes on counting where it answered before: its models may have been away meanwhile."""
        if before is None or before.labels != self.labels:
            return self
        tallies = {one.target.identity: one.tally for one in before.answering}
        going_on = (replace(it, tally=tallies.get(it.target.identity, it.tally)) for it in self.answering)
        return replace(self, answering=tuple(going_on))

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
        self._live[key] = self._by_id[live.desired.deployment] = live.after(before)
        SERVED.set(len(self._live))

    def drop(self, live: Live) -> None:
        """Nothing answers there any more."""
        del self._live[(live.desired.project, live.desired.name)]
        self._by_id.pop(live.desired.deployment, None)
        SERVED.set(len(self._live))
