"""What the tests of ingest share."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import duckdb
import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.app import create_app
from ingest.domain.reports import Compression, Format, Limits, Report, Task
from ingest.domain.settings import DatasetSettings
from ingest.parser.parse import parse
from ingest.reconcile import Parser
from ingest.settings import Settings
from ingest.store.datasets import DatasetStore
from kit.app import Service
from kit.blobs import BlobStore
from kit.callers import Role
from kit.testing import DatabaseUrl, EngineOf, KeyFolder, client_of

sys.path.insert(0, str(Path(__file__).parent))  # for `replicas_at_work`

from replicas_at_work import InlineParser, Replica, ReplicaOf


class Parsed:
    """A report with the rows and rejects that belong to it."""

    def __init__(self, report: Report, out: Path) -> None:
        self.report = report
        self.out = out

    def rows(self, *splits: str) -> list[tuple[Any, ...]]:
        wanted = splits or ("train", "held_out")
        paths = [str(self.out / shard.path) for shard in self.report.shards if shard.split in wanted]
        return self._select(paths) if paths else []

    def rejects(self) -> list[tuple[int, str | None, str]]:
        """(line, column, reason) of each."""
        return [(line, column, reason) for line, column, reason, _, _ in self.rejects_whole()]

    def rejects_whole(self) -> list[tuple[Any, ...]]:
        return self._select([str(self.out / self.report.rejects)]) if self.report.rejects else []

    def shard_bytes(self) -> list[bytes]:
        return [(self.out / shard.path).read_bytes() for shard in self.report.shards]

    def _select(self, paths: list[str]) -> list[tuple[Any, ...]]:
        with duckdb.connect() as session:
            session.execute("SET TimeZone = 'UTC'")
            names = session.execute("SELECT * FROM read_parquet(?) LIMIT 0", [paths]).description
            # Timestamps as text: DuckDB hands out aware ones only with another package.
            columns = ", ".join(
                f'"{name[0]}"::VARCHAR' if "TIME" in str(name[1]) else f'"{name[0]}"' for name in names or ()
            )
            return session.execute(f"SELECT {columns} FROM read_parquet(?)", [paths]).fetchall()


Parse = Callable[..., Parsed]


@pytest.fixture
def parse_bytes(tmp_path: Path) -> Parse:
    """Parse bytes as a file, in this process and with the real engine."""
    count = 0

    def run(
        data: bytes | str,
        settings: dict[str, Any] | None = None,
        *,
        format: str = "csv",
        compression: str | None = None,
        **limits: int,
    ) -> Parsed:
        nonlocal count
        count += 1
        source, out = tmp_path / f"source-{count}", tmp_path / f"out-{count}"
        source.write_bytes(data if isinstance(data, bytes) else data.encode())
        out.mkdir()
        task = Task(
            source=source,
            out=out,
            format=Format(format),
            compression=Compression(compression) if compression else None,
            settings=DatasetSettings.model_validate(settings or {"split": {"held_out": 0}}),
            limits=Limits(**limits),
        )
        return Parsed(parse(task), out)

    return run


@pytest.fixture
async def engine(engine_of: EngineOf) -> AsyncEngine:
    return await engine_of("ingest")


@pytest.fixture
def settings(database_url: DatabaseUrl, key_folder: KeyFolder, objects_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=SecretStr(database_url("ingest")),
        private_key_file=key_folder.private("ingest"),
        public_keys_file=key_folder.public,
        objects_url=objects_url,
        work_dir=tmp_path / "work",
    )


@pytest.fixture
def app(engine: AsyncEngine, settings: Settings) -> Service:
    """On an empty database."""
    return create_app(settings)


@pytest.fixture
async def client(app: Service, key_folder: KeyFolder) -> AsyncIterator[httpx2.AsyncClient]:
    """An editor of the project blue."""
    async with client_of(app, key_folder.headers("ingest", project="blue", role=Role.EDITOR)) as client:
        yield client


@pytest.fixture
def store(objects_url: str) -> BlobStore:
    return BlobStore(objects_url, "ingest")


@pytest.fixture
def replica_of(engine: AsyncEngine, store: BlobStore, settings: Settings) -> ReplicaOf:
    settings.work_dir.mkdir(exist_ok=True)

    def replica(parser: Parser | None = None) -> Replica:
        return Replica(engine, store, settings.work_dir, parser or InlineParser())

    return replica


@pytest.fixture
async def dataset(engine: AsyncEngine) -> str:
    async with engine.begin() as connection:
        await DatasetStore(connection).add("blue", "flights", DatasetSettings(key=["id"]))
    return "flights"
