"""The first key of a suite: for the project that every suite has, in a file that only its owner can read.

    {"url": "http://127.0.0.1:8080", "api_key": "ty_…"}

Run at every start. It makes what is missing and changes nothing that is there.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway import actions
from gateway.actions import SERVICE, Wanted
from gateway.domain.keys import read_key
from gateway.domain.projects import FIRST
from gateway.store.keys import KeyStore
from gateway.store.projects import ProjectStore
from gateway.store.snapshots import write_private
from kit import audit
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


async def make_first_key(engine: AsyncEngine, path: Path, url: str) -> str:
    """Bring database and file together. Says what was done.

    The database comes first: a key that was made but never written down is revoked by the next call.

    Raises:
        Refused: the file holds something else, or cannot be written.
    """
    async with engine.begin() as turn:
        # Held until the file is written, so that of two at once the second finds the first one's file.
        await turn.execute(sa.text("select pg_advisory_xact_lock(hashtext('gateway bootstrap'))"))
        kept = _read(path)
        if kept is not None and await _is_live(engine, kept.api_key):
            if kept.url == url and os.stat(path).st_mode & 0o077 == 0:
                return f"{path} is as it should be."
            _write(path, Credentials(url, kept.api_key))
            return f"Wrote {url} to {path}."
        async with engine.begin() as connection:
            key = await _make(connection)
        _write(path, Credentials(url, key))
    return f"Wrote a key of an admin of the project {FIRST} to {path}."


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


def _read(path: Path) -> Credentials | None:
    try:
        document = json.loads(path.read_bytes())
        return Credentials(str(document["url"]), str(document["api_key"]))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Refused(f"{path} cannot be read: {exc.strerror}.") from None
    except (ValueError, KeyError, TypeError):
        raise Refused(f"{path} holds something else than credentials. Move it away, or name another file.") from None


def _write(path: Path, credentials: Credentials) -> None:
    document = {"url": credentials.url, "api_key": credentials.api_key}
    try:
        write_private(path, json.dumps(document, indent=1).encode() + b"\n")
    except OSError as exc:
        raise Refused(f"{path} cannot be written: {exc.strerror}.") from None
