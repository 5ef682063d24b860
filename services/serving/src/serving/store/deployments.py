"""Deployments and their revisions in the database. Every statement about these two tables is in this file."""

import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from kit import leases, tracing
from kit.db import NOW
from kit.ids import uuid7
from serving.domain.deployments import (
    BEGUN,
    Deployment,
    DeploymentNotFound,
    Part,
    Phase,
    Reason,
    Status,
    TooManyDeployments,
)
from serving.domain.desired import Desired
from serving.domain.limits import UNLIMITED, Limits
from serving.domain.revisions import Revision, Target
from serving.store.tables import deployments, observations, revisions

_OF_REVISION = sa.and_(
    revisions.c.project == deployments.c.project,
    revisions.c.deployment_id == deployments.c.id,
    revisions.c.number == deployments.c.revision,
)
_Key = tuple[str, uuid.UUID, int]
_COLUMNS = (
    *(deployments.c[name] for name in ("id", "project", "name", "models", "phase", "reason", "message")),
    *(deployments.c[name] for name in ("limits", "pinned")),
    *(deployments.c[name] for name in ("generation", "observed_generation", "nudges")),
    *(deployments.c[name] for name in ("removed_at", "created_at", "updated_at")),
    *(revisions.c[name] for name in ("number", "targets")),
    revisions.c.created_at.label("revised_at"),
)
_READ = sa.select(*_COLUMNS).select_from(deployments.outerjoin(revisions, _OF_REVISION))
# Changing what is wanted leaves the lease alone: its owner's answer to the older question is then refused.
_NUDGED: dict[str, Any] = {"nudges": deployments.c.nudges + 1, "due_at": NOW}


class DeploymentStore:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(
        self, project: str, name: str, models: Sequence[Part], *, limits: Limits = UNLIMITED, is_pinned: bool = False
    ) -> Deployment | None:
        """A new deployment; None when the project has one of that name."""
        values = {"id": uuid7(), "project": project, "name": name, "models": _documents(models), **_status(BEGUN)}
        values |= {"limits": limits.to_json(), "pinned": is_pinned}
        free = deployments.c.removed_at.is_(None)
        insert = pg.insert(deployments).values(values)
        made = insert.on_conflict_do_nothing(index_elements=["project", "name"], index_where=free)
        row = (await self._connection.execute(made.returning(deployments.c.id))).one_or_none()
        return None if row is None else await self.get(project, name)

    async def require_room(self, project: str, limit: int) -> None:
        """Make sure that this transaction may add one, and no other meanwhile.

        Raises:
            TooManyDeployments: the project has `limit` already.
        """
        turn = sa.func.hashtextextended(f"deployments of {project}", 0)
        await self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(turn)))
        there = (deployments.c.project == project, deployments.c.removed_at.is_(None))
        count = await self._connection.execute(sa.select(sa.func.count()).select_from(deployments).where(*there))
        if count.scalar_one() >= limit:
            raise TooManyDeployments(f"A project may have {limit} deployments.")

    async def get(self, project: str, name: str, *, lock: bool = False) -> Deployment:
        """
        Raises:
            DeploymentNotFound: the project has none of that name.
        """
        found = await self.find(project, name, lock=lock)
        if found is None:
            raise DeploymentNotFound(f"There is no deployment {name[:100]}.")
        return found

    async def find(self, project: str, name: str, *, lock: bool = False) -> Deployment | None:
        there = sa.and_(deployments.c.project == project, deployments.c.name == name)
        return await self._one(sa.and_(there, deployments.c.removed_at.is_(None)), lock=lock)

    async def find_by_id(self, project: str, deployment_id: uuid.UUID) -> Deployment | None:
        """Also one that is removed."""
        return await self._one(_is(project, deployment_id), lock=False)

    async def _one(self, where: sa.ColumnElement[bool], *, lock: bool) -> Deployment | None:
        query = _READ.where(where)
        query = query.with_for_update(of=deployments) if lock else query
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else _deployment(row)

    async def page(self, project: str, *, after: str | None, limit: int) -> Sequence[Deployment]:
        """By name."""
        query = _READ.where(deployments.c.project == project, deployments.c.removed_at.is_(None))
        if after is not None:
            query = query.where(deployments.c.name > after)
        found = await self._connection.execute(query.order_by(deployments.c.name).limit(limit))
        return [_deployment(row) for row in found]

    async def change(
        self,
        deployment: Deployment,
        models: Sequence[Part],
        *,
        limits: Limits | None = None,
        is_pinned: bool | None = None,
    ) -> Deployment:
        """Ask the deployment (locked by this transaction) for other models or limits; None: as they are."""
        values = {"models": _documents(models), "generation": deployments.c.generation + 1, "updated_at": NOW}
        values["limits"] = (deployment.limits if limits is None else limits).to_json()
        values["pinned"] = deployment.is_pinned if is_pinned is None else is_pinned
        await self._update(deployment, **values, **_status(BEGUN), **_nudged_now())
        return await self.get(deployment.project, deployment.name)

    async def begin_again(self, deployment: Deployment) -> Deployment:
        """What was asked for means something else by now: not ready until that is served."""
        await self._update(deployment, **_status(BEGUN), **_nudged_now())
        return await self.get(deployment.project, deployment.name)

    async def remove(self, deployment: Deployment) -> None:
        """Take the deployment (locked by this transaction) away from its users."""
        await self._update(deployment, removed_at=NOW, generation=deployments.c.generation + 1, **_nudged_now())

    async def _update(self, deployment: Deployment, **values: Any) -> None:
        statement = sa.update(deployments).where(_is(deployment.project, deployment.id))
        await self._connection.execute(statement.values(values))

    async def nudge(self, these: Collection[tuple[str, uuid.UUID]], *, trace: str | None = None) -> None:
        """Have these looked at now, as part of a trace if there is one."""
        told = {} if trace is None else {"traceparent": trace}
        # In one order everywhere, so that no two replicas wait for each other.
        for project, deployment_id in sorted(these):
            statement = sa.update(deployments).where(_is(project, deployment_id))
            await self._connection.execute(statement.values(**_NUDGED, **told))

    async def nudge_users_of(self, project: str, model: str, *, trace: str | None = None) -> None:
        """Have those looked at that ask for any version of this model."""
        part = sa.func.jsonb_array_elements(deployments.c.models).table_valued("value").alias("part")
        named = sa.func.split_part(part.c.value.op("->>")("model"), "@", 1)
        uses = sa.exists(sa.select(1).select_from(part).where(named == model))
        where = (deployments.c.project == project, deployments.c.removed_at.is_(None), uses)
        found = await self._connection.execute(sa.select(deployments.c.id).where(*where))
        await self.nudge([(project, row.id) for row in found], trace=trace)

    async def revise(self, lease: leases.Lease, seen: Deployment, targets: Sequence[Target]) -> Revision | None:
        """Record what the owner of the lease found the references to mean, as the next revision to serve.

        None, and nothing is recorded, when the lease or the question is out of date.
        """
        mine = sa.and_(revisions.c.project == seen.project, revisions.c.deployment_id == seen.id)
        last = sa.select(sa.func.coalesce(sa.func.max(revisions.c.number), 0)).where(mine)
        number = (await self._connection.execute(last)).scalar_one() + 1
        status = Status(Phase.PENDING, Reason.LOADING, f"Revision {number} is loaded.")
        if not await self.record(lease, seen, status, due_in=timedelta(0), revision=number):
            return None
        values = {"project": seen.project, "deployment_id": seen.id, "number": number}
        documents = [target.to_json() for target in targets]
        made = await self._connection.execute(
            sa.insert(revisions).values(**values, targets=documents).returning(revisions.c.created_at)
        )
        return Revision(number, tuple(targets), made.scalar_one())

    async def record(
        self, lease: leases.Lease, seen: Deployment, status: Status, *, due_in: timedelta, **values: object
    ) -> bool:
        """Record what the owner of the lease found of the deployment that it saw, and give the lease back."""
        query = sa.select(deployments.c.nudges).where(_is(lease.project, lease.id)).with_for_update()
        if (await self._connection.execute(query)).scalar_one_or_none() != seen.nudges:
            # Something happened while we looked: what we found may be from before it.
            await self._give_back(lease, seen)
            return False
        values |= {**_status(status), "observed_generation": seen.generation}
        if status.phase is not Phase.PENDING:
            values["traceparent"] = None  # what was asked for is done: the looks that follow belong to no trace
        return await leases.record(
            self._connection, deployments, lease, generation=seen.generation, final=(), due_in=due_in, **values
        )

    async def postpone(self, lease: leases.Lease, seen: Deployment, due_in: timedelta) -> None:
        """Give the lease back, and look again later."""
        await leases.record(self._connection, deployments, lease, generation=seen.generation, final=(), due_in=due_in)

    async def _give_back(self, lease: leases.Lease, seen: Deployment) -> None:
        await self.postpone(lease, seen, timedelta(0))

    async def forget(self, lease: leases.Lease, seen: Deployment) -> bool:
        """Delete what is left of a removed deployment."""
        mine = sa.and_(_is(lease.project, lease.id), deployments.c.fence == lease.fence)
        query = sa.select(deployments.c.id).where(mine, deployments.c.removed_at.is_not(None)).with_for_update()
        if (await self._connection.execute(query)).one_or_none() is None:
            return False
        of = sa.and_(revisions.c.project == seen.project, revisions.c.deployment_id == seen.id)
        await self._connection.execute(sa.delete(revisions).where(of))
        await self._connection.execute(sa.delete(deployments).where(_is(lease.project, lease.id)))
        return True

    async def prune(self, keep: int) -> int:
        """Delete the revisions before the newest `keep` of each deployment that no replica serves. Says how many."""
        same = sa.and_(deployments.c.project == revisions.c.project, deployments.c.id == revisions.c.deployment_id)
        old = sa.exists().where(same, revisions.c.number <= deployments.c.revision - keep)
        of = observations.c
        here = sa.and_(of.project == revisions.c.project, of.deployment_id == revisions.c.deployment_id)
        served = sa.exists().where(here, sa.or_(of.serving == revisions.c.number, of.tried == revisions.c.number))
        return (await self._connection.execute(sa.delete(revisions).where(old, ~served))).rowcount

    async def references(self, deployment: Deployment, numbers: Collection[int]) -> set[str]:
        """The model versions of these revisions, as holds name them."""
        mine = sa.and_(revisions.c.project == deployment.project, revisions.c.deployment_id == deployment.id)
        found = await self._connection.execute(
            sa.select(revisions.c.targets).where(mine, revisions.c.number.in_(sorted(numbers)))
        )
        return {Target.from_json(target).reference for row in found for target in row.targets}

    async def desired(self, known: Iterable[Desired] = ()) -> list[Desired]:
        """What every replica is to serve. A revision never changes: those that are `known` are not read again."""
        query = (
            sa.select(
                *(deployments.c[name] for name in ("project", "name", "id", "limits", "pinned")), revisions.c.number
            )
            .join(revisions, _OF_REVISION)
            .where(deployments.c.removed_at.is_(None))
            .order_by(deployments.c.project, deployments.c.id)
        )
        wanted = (await self._connection.execute(query)).all()
        read = {(it.project, it.deployment, it.revision): (it.targets, it.traceparent) for it in known}
        news = [key for row in wanted if (key := (row.project, row.id, row.number)) not in read]
        read |= await self._targets(news)
        found = []
        for row in wanted:
            revised = read.get((row.project, row.id, row.number))
            if revised is not None:  # else it was deleted between the two readings
                targets, trace = revised
                limits = Limits.from_json(row.limits)
                found.append(Desired(row.project, row.name, row.id, row.number, targets, limits, row.pinned, trace))
        return found

    async def _targets(self, keys: Sequence[_Key]) -> dict[_Key, tuple[tuple[Target, ...], str | None]]:
        if not keys:
            return {}
        of = revisions.c
        named = sa.tuple_(of.project, of.deployment_id, of.number).in_(keys)
        found = await self._connection.execute(
            sa.select(of.project, of.deployment_id, of.number, of.targets, of.traceparent).where(named)
        )
        return {
            (row.project, row.deployment_id, row.number): (
                tuple(map(Target.from_json, row.targets)),
                row.traceparent,
            )
            for row in found
        }


def _nudged_now() -> dict[str, Any]:
    """By the request in hand, whose trace what follows belongs to."""
    return {**_NUDGED, "traceparent": tracing.traceparent.get()}


def _is(project: str, deployment_id: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(deployments.c.project == project, deployments.c.id == deployment_id)


def _documents(models: Sequence[Part]) -> list[dict[str, Any]]:
    return [part.to_json() for part in models]


def _status(status: Status) -> dict[str, object]:
    return {"phase": status.phase, "reason": status.reason, "message": status.message[:2000]}


def _deployment(row: sa.Row[Any]) -> Deployment:
    revision = None
    if row.number is not None:
        revision = Revision(row.number, tuple(map(Target.from_json, row.targets)), row.revised_at)
    return Deployment(
        id=row.id,
        project=row.project,
        name=row.name,
        models=tuple(Part(**part) for part in row.models),
        limits=Limits.from_json(row.limits),
        is_pinned=row.pinned,
        status=Status(Phase(row.phase), Reason(row.reason), row.message),
        generation=row.generation,
        observed_generation=row.observed_generation,
        revision=revision,
        nudges=row.nudges,
        removed_at=row.removed_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
