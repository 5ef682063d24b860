"""The loop of a process that answers: see what is to be served, load it beside what is served, move, let go, report.

It needs the database only to learn of changes and the registry only to fetch what it does not have: with both away,
and through a restart, it serves what it served.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import errors, leases, tracing
from kit.attestations import AttestationMissing
from kit.reconcile import first
from models.onnx_models import OnnxModelInvalid
from models.onnx_structure import OnnxOutside
from models.signature import ModelOutputInvalid
from serving import actions
from serving.domain.deployments import Reason
from serving.domain.desired import Desired, StateUnreadable, dump, load
from serving.domain.observations import Observation
from serving.replica.asking import Asking
from serving.replica.children import ModelFailed, ModelTooHungry, RunnerGone
from serving.replica.files import Files, ModelTooLarge
from serving.replica.residency import NoRoom, Residency
from serving.replica.residents import Loader
from serving.replica.runners import Runners
from serving.replica.table import Answering, Live, ModelNotReady, Table
from serving.store.deployments import DeploymentStore
from serving.store.replicas import ReplicaStore

log = logging.getLogger(__name__)
RELOAD = 10.0
"""Seconds that a request waits for a model that was given up."""
HEARTBEAT = 3.0
SILENCE = 5.0
"""Seconds that the database may take to answer."""
PATIENCE = 5.0
"""Seconds that a look at what is wanted waits for the models that it began to load."""
FIRST, LONGEST = 1.0, 60.0
"""Seconds until a revision that could not be loaded is tried again; they double."""
UNNEEDED = timedelta(hours=1)
"""How long a file is kept that nothing here serves."""
ABSENT = 2.0
"""Seconds until the registry is asked again that did not answer."""
REASONS: dict[type[BaseException], Reason] = {
    AttestationMissing: Reason.ATTESTATION_MISSING,
    ModelTooLarge: Reason.MODEL_TOO_LARGE,
    ModelTooHungry: Reason.OUT_OF_MEMORY,
    NoRoom: Reason.OUT_OF_MEMORY,
    ModelFailed: Reason.MODEL_INVALID,
    OnnxModelInvalid: Reason.MODEL_INVALID,
    OnnxOutside: Reason.MODEL_INVALID,
    ModelOutputInvalid: Reason.MODEL_INVALID,
    RunnerGone: Reason.LOAD_FAILED,
    # As the registry says them.
    errors.Corrupt: Reason.ARTIFACT_CORRUPT,
    errors.NotFound: Reason.MODEL_NOT_FOUND,
    errors.Unavailable: Reason.REGISTRY_UNAVAILABLE,
}


class DeploymentPinned(errors.Conflict):
    """Its models stay in memory."""


class _Trouble:
    """A revision that could not be loaded."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.tries = 0
        self.next_at = 0.0
        self.reason = Reason.NONE
        self.message = ""

    def failed(self, error: Exception) -> None:
        kinds = type(error).__mro__
        self.reason = next((REASONS[kind] for kind in kinds if kind in REASONS), Reason.LOAD_FAILED)
        self.message = error.detail if isinstance(error, errors.Error) else f"{type(error).__name__}: {error}"
        pause = ABSENT if self.reason is Reason.REGISTRY_UNAVAILABLE else min(FIRST * 2**self.tries, LONGEST)
        self.next_at = time.monotonic() + pause
        self.tries += 1


class Replica:
    def __init__(
        self,
        engine: AsyncEngine,
        table: Table,
        files: Files,
        loader: Loader,
        runners: Runners,
        *,
        budget: int | None = None,
        reload: float = RELOAD,
    ) -> None:
        """`budget` is the bytes that models may take; `reload` the seconds that a request waits for one of them."""
        self._engine = engine
        self._table = table
        self._files = files
        self._reload = reload
        self._residency = Residency(table, loader, budget, self.awake)
        self._runners = runners
        self._trouble: dict[uuid.UUID, _Trouble] = {}
        self._desired: list[Desired] = []
        self._boot = uuid.uuid4()
        self._id = self._boot
        self._writing = asyncio.Lock()
        self._ask_wanted, self._tell = Asking(SILENCE), Asking(SILENCE)
        self._bringing: dict[uuid.UUID, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup
        self._is_through = False
        self.restored = asyncio.Event()
        """Set when what was served last is served again, or cannot be for now."""

    def lacking(self) -> dict[str, Any] | None:
        """What this process still lacks to do its work."""
        if not self._table.is_informed:
            return {"desired": "unknown"}
        return None if self._is_through else {"desired": "loading"}

    def listed(self, project: str) -> list[tuple[Desired, Live | None, str]]:
        """A project's deployments as they are wanted, what answers for each here, and why that is something else."""
        troubles = {key: it.message for key, it in self._trouble.items()}
        return [
            (it, self._table.of(it.deployment), troubles.get(it.deployment, ""))
            for it in sorted(self._desired, key=lambda it: it.name)
            if it.project == project
        ]

    async def run(self, *, poll: float, wakeup: asyncio.Event, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        await asyncio.to_thread(self._files.prepare)
        self._id = await asyncio.to_thread(self._files.identity)
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._restore()
            self.restored.set()
            group.create_task(self._beat(stop))
            while not stop.is_set():
                wakeup.clear()
                await self._safely(self.look)
                await first(wakeup, stop, seconds=poll)
            for task in self._bringing.values():
                task.cancel()
        with contextlib.suppress(SQLAlchemyError, OSError):
            await self._tell(self._leave)
        await self._runners.close()

    async def _restore(self) -> None:
        """Serve again what was served last, by what is on this machine alone."""
        content = await asyncio.to_thread(self._files.remembered)
        if content is None:
            return
        try:
            self._desired = load(content)
        except StateUnreadable:
            log.warning("what was served last cannot be read")
            return
        self._table.know(self._desired)
        await self._safely(self._catch_up)

    async def _safely(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:
            # What answers goes on answering, whatever is wrong with what is new.
            log.exception("not brought up to date")

    async def look(self) -> None:
        """See what is to be served, and bring this process there."""
        try:
            self._desired = await self._ask_wanted(self._read)
        except (SQLAlchemyError, OSError) as error:
            log.info("desired state not read", extra={"error": type(error).__name__})
            if self._table.is_informed:
                await self._catch_up()
            return
        self._table.know(self._desired)
        await self._catch_up()
        await self.report()

    async def _read(self) -> list[Desired]:
        known = (*self._desired, *(live.desired for live in self._table))
        async with self._engine.begin() as connection:
            return await DeploymentStore(connection).desired(known)

    async def _catch_up(self) -> None:
        wanted = {desired.deployment: desired for desired in self._desired}
        gone = [live for live in self._table if live.desired.deployment not in wanted]
        for live in gone:
            self._table.drop(live)
        self._trouble = {
            key: it for key, it in self._trouble.items() if key in wanted and it.revision == wanted[key].revision
        }
        for desired in self._desired:
            if self._is_due(desired):
                self._bringing[desired.deployment] = self._group.create_task(self._bring(desired))
        loading = list(self._bringing.values())
        if loading:
            # One that takes its time does not keep the others from what is new for them.
            await asyncio.wait(loading, timeout=PATIENCE)
        self._bringing = {key: task for key, task in self._bringing.items() if not task.done()}
        if gone or len(self._bringing) < len(loading):
            await self._let_go()
        self._is_through = self._is_through or not self._bringing

    def _is_due(self, desired: Desired) -> bool:
        live = self._table.of(desired.deployment)
        trouble = self._trouble.get(desired.deployment)
        served = live is not None and live.desired.asks == desired.asks and not live.is_lost
        waits = trouble is not None and time.monotonic() < trouble.next_at
        return not served and not waits and desired.deployment not in self._bringing

    async def _bring(self, desired: Desired) -> None:
        """Load a revision beside the one that is served, and let it take over."""
        with tracing.quietly() if desired.traceparent is None else tracing.span("load", parent=desired.traceparent):
            tracing.note(deployment=desired.name, revision=desired.revision)
            with self._residency.claiming(desired):
                await self._load(desired)

    async def _load(self, desired: Desired) -> None:
        said = {"deployment": desired.name, "revision": desired.revision}
        try:
            residents = await self._residency.bring(desired)
            answering = [
                Answering(target, resident, lane=resident.lane(desired.limits))
                for target, resident in zip(desired.targets, residents, strict=True)
            ]
            if desired not in self._desired:
                return
            # Before it answers: what was once said to be served is served after a restart too.
            await self._remember(desired)
        except Exception as error:  # noqa: BLE001 - whatever a model does when it is loaded, the others go on
            trouble = self._trouble.setdefault(desired.deployment, _Trouble(desired.revision))
            trouble.failed(error)
            log.warning("not loaded", extra=said | {"reason": trouble.reason, "detail": trouble.message})
            return
        self._trouble.pop(desired.deployment, None)
        self._table.put(Live(desired, tuple(answering)))
        log.info("serving", extra=said)

    async def awake(self, deployment: uuid.UUID) -> Live:
        """What answers for it, with its models in memory: they are brought back if they were given up.

        Raises:
            ModelNotReady: that takes too long, or cannot be.
        """
        live = self._table.of(deployment)
        if live is not None and live.is_asleep:
            wanted = next((it for it in self._desired if it.deployment == deployment), live.desired)
            trouble = self._trouble.get(deployment)
            if deployment not in self._bringing and (trouble is None or time.monotonic() >= trouble.next_at):
                self._bringing[deployment] = task = self._group.create_task(self._bring(wanted))
                task.add_done_callback(lambda _: self._bringing.pop(deployment, None))
            if (loading := self._bringing.get(deployment)) is not None:
                await asyncio.wait({loading}, timeout=self._reload)
            live = self._table.of(deployment)
        if live is None or live.is_asleep:
            trouble = self._trouble.get(deployment)
            said = "" if trouble is None else f" {trouble.message}"
            raise ModelNotReady(f"The model is not in memory yet.{said}", retry_after=timedelta(seconds=1))
        return live

    async def load(self, project: str, name: str) -> Live:
        """Bring a deployment's models back into memory, if they are not there.

        Raises:
            DeploymentNotFound: there is none of that name.
            ModelNotReady: they cannot be had, or not so soon.
        """
        return await self.awake(self._table.find(project, name).desired.deployment)

    async def unload(self, project: str, name: str) -> None:
        """Give a deployment's models up, in this process. The next request, or `load`, brings them back.

        Raises:
            DeploymentNotFound: there is none of that name.
            DeploymentPinned: it is to stay in memory.
        """
        live = self._table.find(project, name)
        if live.desired.is_pinned:
            raise DeploymentPinned(f"Deployment {name[:100]} is pinned: its models stay in memory.")
        if not live.is_asleep:
            await self._residency.evict(live)

    async def _remember(self, *coming: Desired) -> None:
        """Keep on disk what is served, and what is about to be."""
        async with self._writing:
            served = {desired.deployment: self._served(desired) for desired in self._desired}
            served |= {desired.deployment: desired for desired in coming}
            try:
                await asyncio.to_thread(self._files.remember, dump(list(served.values())))
            except OSError as error:
                # To answer now is worth more than to answer after a restart.
                log.error("not remembered what is served", extra={"error": str(error)})

    async def _let_go(self) -> None:
        """Drop what is not served any more."""
        await self._remember()
        if self._bringing:
            return  # what they have loaded is nobody's yet
        await self._residency.keep_only_used()
        await self._runners.close_idle()
        kept = (*self._desired, *(live.desired for live in self._table))
        keep = {target.file.digest for desired in kept for target in desired.targets}
        try:
            await asyncio.to_thread(self._files.sweep, keep, UNNEEDED)
        except OSError as error:
            log.warning("files not swept", extra={"error": str(error)})

    def _served(self, desired: Desired) -> Desired:
        """What answers for it, or is to as soon as it can."""
        live = self._table.of(desired.deployment)
        return desired if live is None else live.desired

    async def _beat(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.report()
            await first(stop, seconds=HEARTBEAT)

    async def report(self) -> None:
        """Tell the reconcilers that this replica lives, and what it observes."""
        if not self._is_through:
            return
        with contextlib.suppress(SQLAlchemyError, OSError):
            await self._tell(self._report)

    async def _report(self) -> None:
        observed = {(desired.project, desired.deployment): self._observation(desired) for desired in self._desired}
        async with self._engine.begin() as connection:
            news = await ReplicaStore(connection).report(self._id, self._boot, observed)
            await DeploymentStore(connection).nudge(news)
            if news:
                await leases.hint(connection, actions.SERVICE)

    def _observation(self, desired: Desired) -> Observation:
        live = self._table.of(desired.deployment)
        serving = None if live is None or live.is_lost else live.desired.revision
        trouble = self._trouble.get(desired.deployment)
        if trouble is None:
            return Observation(desired.revision, serving)
        return Observation(desired.revision, serving, trouble.reason, trouble.message)

    async def _leave(self) -> None:
        async with self._engine.begin() as connection:
            await ReplicaStore(connection).leave(self._id, self._boot)
