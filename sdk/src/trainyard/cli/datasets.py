"""`trainyard dataset`."""

import itertools
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from trainyard.cli.failures import Failed
from trainyard.cli.output import Output, OutputOption, number, say, short, show_item, show_list, state, stderr
from trainyard.cli.session import confirm, connect, document_of, reference_of
from trainyard.client import Client
from trainyard.results import DatasetVersion

app = typer.Typer(no_args_is_help=True, add_completion=False)

Reference = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="flights, flights@3 or flights@sha256:…")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]
Sure = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

VERSION_COLUMNS = (
    ("version", lambda version: number(version.version)),
    ("state", lambda version: state(version.phase)),
    ("rows", lambda version: version.rows),
    ("rejected", lambda version: version.rejected),
    ("digest", lambda version: short(version.digest)),
    ("made", lambda version: version.created_at),
)


@app.command("create")
def create_dataset(
    name: str,
    settings: Annotated[Path | None, typer.Option("--settings", help="YAML or JSON: columns, nulls, key, …")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a dataset; its settings say how files become rows."""
    with connect() as client:
        dataset = client.datasets.create(name, document_of(settings) if settings else None)
    show_item(dataset, {"dataset": dataset.name}, output)
    say(f"Next: trainyard dataset upload {name} FILE")


@app.command("list")
def list_datasets(output: OutputOption = Output.TABLE) -> None:
    """All datasets."""
    columns = (("name", lambda dataset: dataset.name), ("made", lambda dataset: dataset.created_at))
    with connect() as client:
        show_list(client.datasets.list(), columns, output, empty="No datasets yet: trainyard dataset create NAME")


@app.command("get")
def get_dataset(reference: Reference, output: OutputOption = Output.TABLE) -> None:
    """A dataset with its settings, or one of its versions."""
    name, version = reference_of(reference)
    with connect() as client:
        if "@" in reference:
            show_version(client.datasets.version(name, version), output)
            return
        dataset = client.datasets.get(name)
    show_item(dataset, {"dataset": dataset.name, "made": dataset.created_at, **dataset.settings}, output)


@app.command("upload")
def upload_file(
    name: str,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, NDJSON or Parquet; .gz, .zst")],
    format: Annotated[str | None, typer.Option("--format", help="csv, ndjson or parquet")] = None,
    compression: Annotated[str | None, typer.Option("--compression", help="gzip or zstd")] = None,
    wait: Annotated[bool, typer.Option(help="Until the version is ready.")] = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a version from a file. The same file again is the version that exists."""
    with connect() as client:
        version = _start_version(client, name, file, format, compression)
        reused = version.reused_from is not None
        if wait:
            with stderr().status(f"Reading {file.name} into {version.reference} …"):
                version = client.datasets.wait(name, version.version)
    show_version(version, output)
    if reused:
        say(f"This file and these settings had made {version.reference} before.")
    if version.phase == "failed":
        raise Failed(f"{version.reference} failed: {version.status.message or version.status.reason}")


@app.command("versions")
def list_versions(name: str, output: OutputOption = Output.TABLE) -> None:
    """All versions of a dataset."""
    with connect() as client:
        empty = f"No versions yet: trainyard dataset upload {name} FILE"
        show_list(client.datasets.versions(name), VERSION_COLUMNS, output, empty=empty)


@app.command("rejects")
def list_rejects(reference: Reference, limit: Limit = 20, output: OutputOption = Output.TABLE) -> None:
    """The rows that a version left out, with line and reason."""
    columns = (
        ("line", lambda reject: number(reject.line)),
        ("column", lambda reject: reject.column),
        ("reason", lambda reject: reject.reason),
        ("detail", lambda reject: reject.detail),
        ("row", lambda reject: (reject.text or "")[:80]),
    )
    with connect() as client:
        rejects = itertools.islice(client.datasets.rejects(*reference_of(reference)), limit)
        show_list(rejects, columns, output, empty="No row was rejected.")


@app.command("profile")
def get_profile(reference: Reference, output: OutputOption = Output.TABLE) -> None:
    """Counts, nulls, distinct values and quantiles of each column."""
    with connect() as client:
        profile = client.datasets.profile(*reference_of(reference))
    if output is Output.JSON:
        show_item(profile, {}, output)
        return
    columns = tuple((name, _member(name)) for name in ("name", "type", "nulls", "distinct", "min", "max", "mean"))
    show_list(profile.get("columns", []), columns, output, empty="There is no profile.")


@app.command("rows")
def list_rows(
    reference: Reference,
    split: Annotated[str | None, typer.Option("--split", help="train or held_out")] = None,
    limit: Limit = 10,
    output: OutputOption = Output.TABLE,
) -> None:
    """Some rows."""
    name, version = reference_of(reference)
    with connect() as client:
        rows = list(itertools.islice(client.datasets.rows(name, version, split=split), limit))
    columns = tuple((column, _member(column)) for column in (rows[0] if rows else {}))
    show_list(rows, columns, output, empty="There are no rows.")


@app.command("delete")
def delete_dataset(reference: Reference, yes: Sure = False) -> None:
    """Delete a dataset, or with @VERSION one version. What is used by a job or a model stays."""
    name, version = reference_of(reference)
    confirm(f"Delete {reference}?", yes)
    with connect() as client:
        if "@" in reference:
            client.datasets.delete_version(name, version)
        else:
            client.datasets.delete(name)
    say(f"Deleted {reference}.")


def show_version(version: DatasetVersion, output: Output) -> None:
    """A version and what became of its rows."""
    splits = ", ".join(f"{name} {rows:,}" for name, rows in (version.splits or {}).items())
    fields = {
        "dataset": version.reference,
        "state": state(version.phase),
        "message": version.status.message,
        "digest": version.digest,
        "rows": version.rows,
        "rejected": version.rejected,
        "splits": splits,
        "columns": ", ".join(f"{column.name} {column.type}" for column in version.schema),
        "made": version.created_at,
    }
    show_item(version, fields, output)


def _start_version(
    client: Client, name: str, file: Path, format: str | None, compression: str | None
) -> DatasetVersion:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=stderr(), transient=True) as progress:
        task = progress.add_task(f"Uploading {file.name}", total=file.stat().st_size)
        return client.datasets.add_version(
            name, file, format=format, compression=compression, sent=lambda size: progress.advance(task, size)
        )


def _member(name: str) -> Any:
    return lambda item: item.get(name)
