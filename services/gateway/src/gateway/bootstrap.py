"""The first key of a suite: for the project that every suite has, in a file that only its owner can read, or in a
Kubernetes Secret.

    {"url": "http://127.0.0.1:8080", "api_key": "ty_…"}

Run at every start. It makes what is missing and changes nothing that is there.
"""

import asyncio
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway import actions
from gateway.actions import SERVICE, Wanted
from gateway.domain.keys import read_key
from gateway.domain.projects import FIRST
from gateway.store.keys import KeyStore
from gateway.store.projects import ProjectStore
from gateway.store.snapshots import write_private
from kit import audit, cluster
from kit.cluster import Cluster
from kit.roles import Caller, Role

SUBJECT = "admin"
KEY = "first admin"
LASTS = timedelta(days=365)
SOON = timedelta(days=30)
"""A key that ends sooner is replaced at the next start."""
MOST = 1_000_000
"""Live keys that may be there: whoever owns the file gets in, whatever others have made."""


class Refused(Exception):
    """It cannot be done, and why."""


@dataclass(frozen=True)
class Credentials:
    url: str
    api_key: str


class Place(Protocol):
    """Where credentials are kept. Both may raise Refused."""

    def read(self) -> Credentials | None:
        """What is there; None when nothing is, or what is there must be written anew."""

    def write(self, credentials: Credentials) -> None: ...


async def make_first_key(engine: AsyncEngine, place: Place, url: str) -> str:
    """Bring database and place together. Says what was done.

    The database comes first: a key that was made but never written down is revoked by the next call.

    Raises:
        Refused: the place holds something else, or cannot be written.
    """
    async with engine.begin() as turn:
        # Held until all is written, so that of two at once the second finds what the first one wrote.
        await turn.execute(sa.text("select pg_advisory_xact_lock(hashtext('gateway bootstrap'))"))
        kept = await asyncio.to_thread(place.read)
        if kept is not None and await _is_live(engine, kept.api_key):
            if kept.url == url:
                return f"{place} is as it should be."
            await asyncio.to_thread(place.write, Credentials(url, kept.api_key))
            return f"Wrote {url} to {place}."
        async with engine.begin() as connection:
            key = await _make(connection)
        await asyncio.to_thread(place.write, Credentials(url, key))
    return f"Wrote a key of an admin of the project {FIRST} to {place}."


async def _is_live(engine: AsyncEngine, text: str) -> bool:
    key = read_key(text)
    async with engine.begin() as connection:
        snapshot = await KeyStore(connection).snapshot()
    grant = snapshot.grants.get(key.id) if key is not None else None
    if key is None or grant is None or not key.is_of(grant.digest):
        return False
    return grant.expires_at is None or grant.expires_at > datetime.now(UTC) + SOON


async def _make(connection: AsyncConnection) -> str:
    store = ProjectStore(connection)
    caller = Caller(FIRST, Role.ADMIN, SUBJECT, SERVICE)
    if await store.find(FIRST) is None:
        await store.add(FIRST)
        await audit.record(connection, caller, "create", "project", FIRST, {})
    member = await store.find_member(FIRST, SUBJECT, lock=True)
    if member is None or member.role is not Role.ADMIN:
        await store.put_member(FIRST, SUBJECT, Role.ADMIN)
        await audit.record(connection, caller, "add", "member", FIRST, {"subject": SUBJECT, "role": Role.ADMIN})
    await KeyStore(connection).revoke_named(FIRST, KEY)
    wanted = Wanted(FIRST, KEY, SUBJECT, Role.ADMIN, None, LASTS)
    key, record = await actions.make(connection, wanted, most=MOST)
    await audit.record(connection, caller, "create", "key", record.id, {"name": KEY, "subject": SUBJECT})
    return str(key)


class File:
    """A file of its owner's own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def read(self) -> Credentials | None:
        try:
            found = _parsed(json.loads(self._path.read_bytes()), self)
            private = os.stat(self._path).st_mode & 0o077 == 0
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise Refused(f"{self} cannot be read: {exc.strerror}.") from None
        except ValueError:
            raise _something_else(self) from None
        # With another URL it is written anew, and then for its owner alone.
        return found if private else Credentials("", found.api_key)

    def write(self, credentials: Credentials) -> None:
        document = {"url": credentials.url, "api_key": credentials.api_key}
        try:
            write_private(self._path, json.dumps(document, indent=1).encode() + b"\n")
        except OSError as exc:
            raise Refused(f"{self} cannot be written: {exc.strerror}.") from None


class Secret:
    """A Secret in the namespace of this pod, with the keys `url` and `api_key`."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._name = name

    def __str__(self) -> str:
        return f"Secret {self._name}"

    def read(self) -> Credentials | None:
        found = self._find()
        if found is None:
            return None
        return _parsed({key: cluster.text_of("secrets", found, key) for key in ("url", "api_key")}, self)

    def write(self, credentials: Credentials) -> None:
        data = {"url": credentials.url, "api_key": credentials.api_key}
        found = self._find()
        try:
            create, replace = self._cluster.create, self._cluster.replace
            done = create("secrets", self._name, data) if found is None else replace("secrets", found, data)
        except cluster.Refused as exc:
            raise Refused(f"{self} cannot be written: {exc}.") from None
        if not done:  # not by another of us: it would hold the lock
            raise Refused(f"{self} was changed by somebody else meanwhile.")

    def _find(self) -> dict[str, Any] | None:
        try:
            return self._cluster.find("secrets", self._name)
        except cluster.Refused as exc:
            raise Refused(f"{self} cannot be read: {exc}.") from None


def _parsed(document: Any, place: Place) -> Credentials:
    try:
        url, key = document["url"], document["api_key"]
    except (KeyError, TypeError):
        raise _something_else(place) from None
    if url is None or key is None:
        raise _something_else(place)
    return Credentials(str(url), str(key))


def _something_else(place: Place) -> Refused:
    return Refused(f"{place} holds something else than credentials. Move it away, or name another.")
