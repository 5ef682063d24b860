"""Datasets, their versions, and the uploads that become versions."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from trainyard.results import Dataset, DatasetVersion, Reject, Upload
from trainyard.wire import Wire

CHUNK = 1 << 20
FINAL = frozenset({"ready", "failed"})
FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
Reference = int | str  # a version's number, "latest", or its digest


class Uploads:
    """Bytes on their way in."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, source: Path | bytes, *, sent: Callable[[int], None] | None = None) -> Upload:
        """Stream a file; `sent` hears how many bytes each part had. The same bytes twice are one upload."""

        def body() -> Iterator[bytes]:
            for chunk in _chunks(source):
                yield chunk
                if sent is not None:
                    sent(len(chunk))

        headers = {"Content-Type": "application/octet-stream"}
        return Upload.of(self._wire.request("POST", "/v1/uploads", body=body, headers=headers).json())

    def delete(self, upload: Upload | str) -> None:
        """Delete one that waits for a version; a used one is a Conflict."""
        self._wire.delete(f"/v1/uploads/{upload.upload if isinstance(upload, Upload) else upload}")


class Datasets:
    """Names for lines of immutable tables."""

    def __init__(self, wire: Wire, uploads: Uploads) -> None:
        self._wire = wire
        self._uploads = uploads

    def create(self, name: str, settings: Mapping[str, Any] | None = None) -> Dataset:
        """A dataset without versions. Settings: columns, nulls, key, split, checks, policy."""
        body = {"name": name, "settings": dict(settings or {})}
        return Dataset.of(self._wire.request("POST", "/v1/datasets", json=body).json())

    def list(self) -> Iterator[Dataset]:
        """All of the project."""
        return map(Dataset.of, self._wire.pages("/v1/datasets"))

    def get(self, name: str) -> Dataset:
        """One by name."""
        return Dataset.of(self._wire.get(f"/v1/datasets/{name}"))

    def delete(self, name: str) -> None:
        """Delete it with its versions; a used one is a Conflict."""
        self._wire.delete(f"/v1/datasets/{name}")

    def add_version(
        self,
        name: str,
        source: Path | Upload,
        *,
        format: str | None = None,
        compression: str | None = None,
        sent: Callable[[int], None] | None = None,
    ) -> DatasetVersion:
        """Start a version from a file or an upload; its format is read from the file's name unless given.

        The same bytes with the same settings are the version that already exists.
        """
        if isinstance(source, Path):
            found = format_of(source)
            format, compression = format or found[0], compression or found[1]
            source = self._uploads.create(source, sent=sent)
        body = {"upload": source.upload, "format": format or "csv", "compression": compression}
        answer = self._wire.request("POST", f"/v1/datasets/{name}/versions", json=body)
        return DatasetVersion.of(answer.json())

    def versions(self, name: str) -> Iterator[DatasetVersion]:
        """All versions."""
        return map(DatasetVersion.of, self._wire.pages(f"/v1/datasets/{name}/versions"))

    def version(self, name: str, version: Reference = "latest") -> DatasetVersion:
        """One version: by number, by digest, or the newest that is ready."""
        return DatasetVersion.of(self._wire.get(_path(name, version)))

    def wait(self, name: str, version: Reference, timeout: timedelta | None = None) -> DatasetVersion:
        """The version once it is ready or failed."""
        done = self._wire.await_done(_path(name, version), lambda found: found["status"]["phase"] in FINAL, timeout)
        return DatasetVersion.of(done)

    def delete_version(self, name: str, version: Reference) -> None:
        """Delete one version; a used one is a Conflict."""
        # By its number: a name that moves would be the next version's when the request is sent again.
        number = version if str(version).isdecimal() else self.version(name, version).version
        self._wire.delete(_path(name, number))

    def profile(self, name: str, version: Reference = "latest") -> dict[str, Any]:
        """Counts, nulls, distinct values and quantiles of each column."""
        profile: dict[str, Any] = self._wire.get(f"{_path(name, version)}/profile")
        return profile

    def rejects(self, name: str, version: Reference = "latest") -> Iterator[Reject]:
        """The rows that were left out, with line and reason."""
        return map(Reject.of, self._wire.pages(f"{_path(name, version)}/rejects"))

    def rows(self, name: str, version: Reference = "latest", *, split: str | None = None) -> Iterator[dict[str, Any]]:
        """The rows: all, or those of the split `train` or `held_out`."""
        return self._wire.pages(f"{_path(name, version)}/rows", {"split": split})


def format_of(path: Path) -> tuple[str | None, str | None]:
    """Format and compression as a file's name says them: `flights.csv.gz` is (csv, gzip)."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None, compression


def _path(name: str, version: Reference) -> str:
    return f"/v1/datasets/{name}/versions/{version}"


def _chunks(source: Path | bytes) -> Iterable[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
