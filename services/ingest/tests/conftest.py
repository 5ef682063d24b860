"""What the tests of ingest share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ingest.domain.reports import Compression, Format, Limits, Report, Task
from ingest.domain.settings import DatasetSettings
from ingest.parser.parse import parse


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
