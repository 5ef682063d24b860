"""What the tests of the trainer share."""

import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

sys.path.insert(0, str(Path(__file__).parent))

from attempts_at_work import Attempt, flights, prepare, result_of
from neighbours import Neighbours
from runners_at_work import Boss, Host
from trainers_at_work import Trainer

from kit import tokens
from kit.app import Service
from kit.blobs import BlobStore
from kit.clients import ServiceClient, http_client
from kit.testing import DatabaseUrl, EngineOf, KeyFolder, client_of
from trainer.app import create_app
from trainer.clients.ingest import IngestClient
from trainer.clients.registry import RegistryClient
from trainer.domain.attempts import Exit
from trainer.reconcile import Reconciler
from trainer.runtime import program
from trainer.settings import Settings


@pytest.fixture
async def engine(engine_of: EngineOf) -> AsyncEngine:
    return await engine_of("trainer")


@pytest.fixture
def neighbours() -> Iterator[Neighbours]:
    neighbours = Neighbours()
    yield neighbours
    neighbours.close()


@pytest.fixture
def settings(database_url: DatabaseUrl, key_folder: KeyFolder, objects_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=SecretStr(database_url("trainer")),
        private_key_file=key_folder.private("trainer"),
        public_keys_file=key_folder.public,
        objects_url=objects_url,
        work_dir=tmp_path / "work",
        ingest_url="http://ingest",
        registry_url="http://registry",
        trainer_url="http://service",
    )


@pytest.fixture
async def app(engine: AsyncEngine, settings: Settings) -> Service:
    return create_app(settings)


@pytest.fixture
async def client(app: Service, key_folder: KeyFolder) -> AsyncIterator[httpx2.AsyncClient]:
    """An editor of the project blue."""
    async with client_of(app, key_folder.headers("trainer", project="blue")) as client:
        yield client


@pytest.fixture
async def ingest(neighbours: Neighbours, key_folder: KeyFolder) -> AsyncIterator[IngestClient]:
    async with http_client(neighbours.url) as http:
        yield IngestClient(ServiceClient(http, tokens.load_signer(key_folder.private("trainer")), "ingest"))


@pytest.fixture
async def registry(neighbours: Neighbours, key_folder: KeyFolder) -> AsyncIterator[RegistryClient]:
    async with http_client(neighbours.url) as http:
        yield RegistryClient(ServiceClient(http, tokens.load_signer(key_folder.private("trainer")), "registry"))


@pytest.fixture
def trainer(
    tmp_path: Path,
    database_url: DatabaseUrl,
    _sweep: Callable[[str], None],
    key_folder: KeyFolder,
    objects_url: str,
) -> Iterator[Trainer]:
    """The trainer as processes, not started yet."""
    database_url("trainer")
    _sweep("trainer")
    with Trainer(tmp_path, database_url, key_folder, objects_url) as trainer:
        yield trainer


@pytest.fixture
def store(settings: Settings) -> BlobStore:
    return BlobStore(settings.objects_url, "trainer")


@pytest.fixture
def world(neighbours: Neighbours) -> Neighbours:
    """With the dataset version that ordinary jobs name."""
    neighbours.add_version(train=flights(20), held_out=flights(10, 1))
    return neighbours


@pytest.fixture
def worker(engine: AsyncEngine, store: BlobStore, ingest: IngestClient, registry: RegistryClient) -> Reconciler:
    return Reconciler(engine, store, ingest, registry)


@pytest.fixture
def attempt() -> Iterator[Attempt]:
    attempt = Attempt()
    yield attempt
    attempt.close()


@pytest.fixture
def boss() -> Boss:
    return Boss()


@pytest.fixture
def host(tmp_path: Path, boss: Boss, ingest: IngestClient, attempt: Attempt) -> Host:
    return Host(tmp_path / "runner", boss, ingest, attempt.url.partition("/internal")[0])


@pytest.fixture
def run(tmp_path: Path, attempt: Attempt) -> Iterator[Callable[..., tuple[Exit, Any]]]:
    """Run the program in this process, with its handlers put back afterwards; no twin is waited for unless asked."""
    before = signal.getsignal(signal.SIGTERM)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(*, twin_seconds: float = 0.01, **spec: Any) -> tuple[Exit, Any]:
        code = program.main(prepare(tmp_path, attempt.url, twin_seconds=twin_seconds, **spec))
        return code, result_of(tmp_path)

    yield run
    signal.signal(signal.SIGTERM, before)
    logging.captureWarnings(False)
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def table() -> pa.Table:
    return flights(1500)


@pytest.fixture(scope="session")
def held_out() -> pa.Table:
    return flights(600, seed=1)
