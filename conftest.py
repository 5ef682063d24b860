"""What all tests of the suite start from: a real PostgreSQL, databases as production has them, no way out.

    async def test_…(engine_of: kit.testing.EngineOf) -> None:
        engine = await engine_of("trainer")       # migrated, without rows

Tests are asyncio's (`anyio_mode = auto`): an `async def test_…` needs no mark.
"""

import gc
import ipaddress
import itertools
import os
import shutil
import signal
import sys
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import greenlet  # type: ignore[import-untyped]
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import databases, db, migrations, testing_database
from kit.testing import DatabaseUrl, EngineOf, KeyFolder
from kit.testing_s3 import Seaweed
from trainyard_local import postgres as local

PASSWORD = "for-tests"  # noqa: S105 - of a server that lives as long as this run, in a folder of its own
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


def pytest_configure(config: pytest.Config) -> None:
    # For the life of the process, since an audit hook cannot be taken away.
    sys.addaudithook(_stay_here)
    if sys.version_info < (3, 12) and config.getoption("cov_source", None):
        _trace_no_weak_reference_of_coverage()


def _trace_no_weak_reference_of_coverage() -> None:
    """Have the ends of greenlets noted by compiled code alone, as long as coverage has weak references to them.

    What greenlet has of a dead thread it ends in a pending call of the main thread; there the callback of the weak
    reference is Python, and is traced. When meanwhile another thread dies, that function's first instruction sees a
    pending call to do, may not begin one within another, looks again, and never goes on: CPython 3.11 looks before it
    traces.
    """

    class Quiet(weakref.WeakKeyDictionary[object, object]):
        """What the tracer of each thread makes for itself."""

        def __init__(self, *of: object) -> None:
            super().__init__(*of)  # type: ignore[call-overload]
            self._remove = self.data.pop  # type: ignore[attr-defined]

    for one in gc.get_objects():
        if type(one) is weakref.WeakKeyDictionary and any(isinstance(it, greenlet.greenlet) for it in one):
            one._remove = one.data.pop  # type: ignore[attr-defined]
    setattr(weakref, "WeakKeyDictionary", Quiet)  # noqa: B010 - types see no assignment there


def _stay_here(event: str, args: tuple[Any, ...]) -> None:
    """Refuse connections and look-ups beyond loopback."""
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) else "localhost"  # a name of a socket is a string
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if not _is_here(host):
        raise RuntimeError(f"Tests do not leave this machine: {event} {host!r}")


def _is_here(host: str | bytes | None) -> bool:
    name = host.decode(errors="replace") if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[local.Server]:
    """A server of this test process. It gives up durability for speed."""
    home = Path(tempfile.mkdtemp(prefix="trainyard-tests-"))
    local.initialise(home / "data", PASSWORD, durable=False)
    server = local.Server(home / "data", local.socket_folder(home), PASSWORD, **FAST)
    yield server
    server.stop(signal.SIGQUIT)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def database_url(postgres: local.Server) -> DatabaseUrl:
    """`database_url("trainer")`: its own role and schema, migrated at the first call of the run.

    Rows of earlier tests are in it: see `engine_of`.
    """
    made: dict[str, str] = {}

    def url_of(service: str) -> str:
        if service not in made:
            databases.prepare(postgres.url, service, {service: PASSWORD})
            url = local.url_of(postgres.sockets, service, PASSWORD, service)
            migrations.upgrade(service, url)
            made[service] = url
        return made[service]

    return url_of


@pytest.fixture(scope="session")
def _sweep(postgres: local.Server) -> Iterator[Callable[[str], None]]:
    sessions: dict[str, psycopg.Connection] = {}

    def sweep(database: str) -> None:
        if database not in sessions or sessions[database].broken:
            sessions[database] = psycopg.connect(databases.plain(postgres.url(database)), autocommit=True)
        testing_database.clear(sessions[database])

    yield sweep
    for session in sessions.values():
        session.close()


@pytest.fixture
async def engine_of(database_url: DatabaseUrl, _sweep: Callable[[str], None]) -> AsyncIterator[EngineOf]:
    """`await engine_of("trainer")`: an engine on its database, emptied at the first call in a test."""
    engines: dict[str, AsyncEngine] = {}

    async def engine(service: str) -> AsyncEngine:
        if service not in engines:
            url = database_url(service)
            _sweep(service)
            engines[service] = db.make_engine(url)
        return engines[service]

    yield engine
    for it in engines.values():
        await it.dispose()


_NUMBERS = itertools.count()


@pytest.fixture
def empty_database_url(postgres: local.Server) -> Iterator[str]:
    """A new database without a table: for tests of kit, and of migrations."""
    name = f"empty_{next(_NUMBERS)}"
    databases.prepare(postgres.url, name, {"nobody": PASSWORD})
    yield local.url_of(postgres.sockets, "nobody", PASSWORD, name)
    with psycopg.connect(databases.plain(postgres.url()), autocommit=True) as session:
        session.execute(psycopg.sql.SQL("drop database {} with (force)").format(psycopg.sql.Identifier(name)))


@pytest.fixture(scope="session")
def key_folder() -> Iterator[KeyFolder]:
    """Internal keys of all services, and tokens made with them."""
    folder = Path(tempfile.mkdtemp(prefix="trainyard-keys-"))
    yield KeyFolder.made(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """An S3 server of this test process, to which AWS_* point from now on."""
    home = Path(tempfile.mkdtemp(prefix="trainyard-s3-"))
    with Seaweed(home) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.env.items():
            environment.setenv(name, value)
        yield server
    shutil.rmtree(home)


_PREFIXES = itertools.count()


@pytest.fixture
def s3_url(seaweed: Seaweed) -> str:
    """An object store in S3, of one test."""
    return f"{seaweed.url}/test-{next(_PREFIXES)}"


@pytest.fixture
def objects_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An object store of one test: in a folder, or with TRAINYARD_TEST_OBJECTS=s3 in S3."""
    if os.environ.get("TRAINYARD_TEST_OBJECTS") == "s3":
        url: str = request.getfixturevalue("s3_url")
        return url
    folder = tmp_path / "objects"
    folder.mkdir()
    return folder.as_uri()
