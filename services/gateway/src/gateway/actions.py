"""What has several collaborators: the ring of keys, and the making of keys."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.domain.access import Grant, Scope, Snapshot, Trust
from gateway.domain.keys import ApiKey, make_key
from gateway.domain.projects import KeyRecord, TooManyKeys, role_for, scopes_of
from gateway.domain.requests import OFFLINE, Operation
from gateway.store.keys import KeyStore
from gateway.store.projects import ProjectStore
from gateway.store.snapshots import SnapshotFile
from kit import leases, reconcile
from kit.roles import Role

log = logging.getLogger(__name__)
SERVICE = "gateway"
GAP = 0.2
"""Seconds between two questions for keys that strangers can bring about."""
ABSENT = 1.0
"""Seconds for which a key that was looked for in vain is not looked for again."""
MOST_ABSENT = 10_000
MOST_ADMITTED = 10_000
PATIENCE = 1.5
"""Seconds that a request waits for the keys to become current."""
AWAY = 1.0
"""Seconds for which a database that has just not answered is not asked again on behalf of a request."""
KEPT = timedelta(seconds=60)
"""How old the moment in the file may be when nothing else has changed. What it is too old is taken from the trust."""
Clock = Callable[[], float]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _digest(text: str) -> bytes:
    # No key is kept as it is, in memory neither.
    return hashlib.sha256(text.encode()).digest()


class KeyRing:
    """All live keys, as this process last saw them."""

    def __init__(
        self,
        engine: AsyncEngine,
        trust: Trust,
        file: SnapshotFile | None = None,
        *,
        monotonic: Clock = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._engine = engine
        self._trust = trust
        self._file = file
        self._monotonic = monotonic
        self._now = now
        self._snapshot: Snapshot | None = None
        self._admitted: dict[bytes, Grant] = {}
        """What keys that were admitted give, by their digests, as long as the snapshot is the same."""
        self._version: tuple[int, int] | None = None
        """Of the rows that the snapshot was made of; None when it was not made of them all at once."""
        self._seen = self._asked = self._failed = float("-inf")
        self._wanted: set[str] = set()
        self._absent: dict[str, float] = {}
        self._kept: tuple[Snapshot, datetime] | None = None
        self._lock = asyncio.Lock()

    @property
    def known(self) -> bool:
        """Whether there was a snapshot ever, and it may be gone by."""
        return self._seen > float("-inf")

    @property
    def age(self) -> timedelta:
        return timedelta(seconds=min(self._monotonic() - self._seen, 1e9))

    @property
    def current(self) -> bool:
        return self.age <= self._trust.fresh

    async def admit(self, key: ApiKey, operation: Operation) -> Grant:
        """What `key` gives for this operation, or the error that says why not.

        A key that is not known here may have been made a moment ago by another replica, so that it is looked for.
        """
        enough = self._trust.offline if operation in OFFLINE else self._trust.fresh
        unknown = key.id not in self._grants.grants
        if self.age > enough or (unknown and not self.current):
            await self.look_again()
        elif unknown:
            await self._look_for(key.id)
        grant = self._grants.admit(key, operation, now=self._now(), age=self.age, trust=self._trust)
        if len(self._admitted) >= MOST_ADMITTED:
            self._admitted.clear()
        self._admitted[_digest(str(key))] = grant
        return grant

    def recall(self, text: str, operation: Operation) -> Grant | None:
        """What `admit` would say of a key that it admitted before; None: it must be asked."""
        grant = self._admitted.get(_digest(text))
        if grant is None or operation not in grant.lets:
            return None
        enough = self._trust.offline if operation in OFFLINE else self._trust.fresh
        if self._monotonic() - self._seen > enough.total_seconds():
            return None
        return grant if grant.expires_at is None or grant.expires_at > self._now() else None

    def _adopt(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._admitted = {}

    @property
    def _grants(self) -> Snapshot:
        return self._snapshot or Snapshot({})

    async def look_again(self) -> None:
        """Know what was committed before this call, if the database answers. Many at once look once."""
        came = self._monotonic()
        if came - self._failed < AWAY:
            return
        try:
            async with asyncio.timeout(PATIENCE), self._lock:
                if self._seen < came:
                    await self._pause()
                    await self._read()
        except (SQLAlchemyError, OSError, TimeoutError):
            self._failed = self._monotonic()

    async def _look_for(self, key_id: str) -> None:
        """Know this key if it was made since. Many at once are asked for together: no stranger makes us read all."""
        came = self._monotonic()
        if came - self._failed < AWAY or came - self._absent.get(key_id, float("-inf")) < ABSENT:
            return
        self._wanted.add(key_id)
        try:
            async with asyncio.timeout(PATIENCE), self._lock:
                if key_id in self._wanted:  # else somebody has asked for it meanwhile
                    await self._pause()
                    await self._find(frozenset(self._wanted))
        except (SQLAlchemyError, OSError, TimeoutError):
            self._failed = self._monotonic()

    async def _pause(self) -> None:
        await asyncio.sleep(max(0.0, self._asked + GAP - self._monotonic()))
        self._asked = self._monotonic()

    async def _find(self, ids: frozenset[str]) -> None:
        async with self._engine.connect() as connection:
            found = await KeyStore(connection).find_live(ids)
        if found:
            self._adopt(Snapshot({**self._grants.grants, **found}))
            self._version = None
        if len(self._absent) + len(ids) > MOST_ABSENT:
            self._absent.clear()
        self._absent |= dict.fromkeys(ids - found.keys(), self._monotonic())
        self._wanted -= ids

    async def refresh(self) -> None:
        """Know all keys. What was committed before this call is known after it."""
        async with self._lock:
            await self._read()

    async def _read(self) -> None:
        began, seen_at = self._monotonic(), self._now()
        async with self._engine.connect() as connection:
            snapshot = await self._current(KeyStore(connection))
        self._seen = self._asked = began
        await self._keep(snapshot, seen_at)

    async def _current(self, store: KeyStore) -> Snapshot:
        """The snapshot, read anew if there is anything new. It stays the same object as long as it says the same."""
        version = await store.version()
        if self._snapshot is None or self._version != version:
            snapshot = await store.snapshot()
            if snapshot != self._snapshot:
                self._adopt(snapshot)
            self._version = version
        return self._grants

    async def _keep(self, snapshot: Snapshot, seen_at: datetime) -> None:
        if self._file is None:
            return
        if self._kept is not None and self._kept[0] == snapshot and seen_at - self._kept[1] < KEPT:
            return
        try:
            await asyncio.to_thread(self._file.save, snapshot, seen_at)
        except OSError as exc:
            log.warning("keys are not kept for a restart", extra={"error": type(exc).__name__})
        self._kept = (snapshot, seen_at)

    def remember(self) -> None:
        """Begin with what an earlier process saw, as old as it is by now."""
        kept = self._file.load() if self._file is not None else None
        if kept is None:
            return
        snapshot, seen_at = kept
        age = self._now() - seen_at
        if timedelta(0) <= age <= self._trust.offline:  # a clock that went back says nothing about age
            self._adopt(snapshot)
            self._seen = self._monotonic() - age.total_seconds()
            log.info("began with kept keys", extra={"age": age.total_seconds()})

    async def keep_current(self, *, every: float, wakeup: asyncio.Event, stop: asyncio.Event) -> None:
        """Refresh again and again, and at once when a NOTIFY says that something changed."""
        away = False
        while not stop.is_set():
            wakeup.clear()
            try:
                async with asyncio.timeout(self._trust.fresh.total_seconds()):
                    await self.refresh()
            except (SQLAlchemyError, OSError, TimeoutError) as exc:
                self._failed = self._monotonic()
                if not away:
                    log.warning("keys are not current", extra={"error": type(exc).__name__})
                away = True
            else:
                if away:
                    log.info("keys are current again")
                away = False
            await reconcile.first(wakeup, stop, seconds=every)


async def tell_all(connection: AsyncConnection) -> None:
    """Make every gateway read the keys anew once this transaction commits."""
    await leases.hint(connection, SERVICE)


@dataclass(frozen=True)
class Wanted:
    """A key that somebody asks for."""

    project: str
    name: str
    subject: str
    role: Role
    scopes: Sequence[Scope] | None
    lasts: timedelta


async def make(connection: AsyncConnection, wanted: Wanted, *, most: int) -> tuple[ApiKey, KeyRecord]:
    """Make a key that is no more than its owner.

    Raises:
        KeyTooStrong: it would be more.
        TooManyKeys: the project has `most` live ones.
    """
    member = await ProjectStore(connection).find_member(wanted.project, wanted.subject)
    role = role_for(member.role if member else None, wanted.role, wanted.subject)
    scopes = scopes_of(role, wanted.scopes)
    store = KeyStore(connection)
    if await store.live_count(wanted.project) >= most:
        raise TooManyKeys(f"The project {wanted.project} has {most} live keys: revoke one first.")
    key = make_key()
    record = await store.add(
        key,
        project=wanted.project,
        name=wanted.name,
        subject=wanted.subject,
        role=role,
        scopes=scopes,
        lasts=wanted.lasts,
    )
    await tell_all(connection)
    return key, record
