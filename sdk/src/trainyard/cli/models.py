"""`trainyard model`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from trainyard.cli.datasets import Sure
from trainyard.cli.output import Output, OutputOption, number, say, short, show_item, show_list, stderr
from trainyard.cli.session import confirm, connect, document_of, json_of, parameters_of, reference_of
from trainyard.client import Client
from trainyard.results import ModelVersion

app = typer.Typer(no_args_is_help=True, add_completion=False)

Reference = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="flight-delays, …@3, …@champion, …@sha256:…")]


@app.command("list")
def list_models(output: OutputOption = Output.TABLE) -> None:
    """All models."""
    columns = (
        ("name", lambda model: model.name),
        ("description", lambda model: model.description),
        ("made", lambda model: model.created_at),
    )
    with connect() as client:
        show_list(client.models.list(), columns, output, empty="No models yet: trainyard job run --model NAME")


@app.command("push")
def push_model(
    name: str,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help=".onnx, .skops, .pt2, .safetensors; of LightGBM or XGBoost")
    ],
    signature: Annotated[Path | None, typer.Option("--signature", help="JSON or YAML; ONNX files say it.")] = None,
    format: Annotated[str | None, typer.Option("--format", help="Where a file's name does not say it.")] = None,
    architecture: Annotated[Path | None, typer.Option("--architecture", help="Of weights in safetensors.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", "-m", help="accuracy=0.97")] = None,
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="epochs=3")] = None,
    example: Annotated[
        str | None, typer.Option("--example", help="Rows as JSON, or @rows.json: it is warmed so.")
    ] = None,
    source: Annotated[str, typer.Option("--source", help="Whence it comes, in your words.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a version of files that were made elsewhere. The same files again are the version that exists."""
    said = {
        "signature": document_of(signature) if signature else None,
        "architecture": document_of(architecture) if architecture else None,
        "metrics": _metrics_of(metric or []),
        "parameters": parameters_of(parameter or []),
        "example": _rows_of(example) if example else [],
    }
    with connect() as client:
        found = _push(client, name, files, format=format, source=source, **said)
    _show_version(found, output)
    say(f"Next: trainyard model alias {name} champion {found.version}; trainyard deployment put {name} {name}@champion")


@app.command("show", hidden=True)  # as some look for it
@app.command("get")
def get_model(reference: Reference, output: OutputOption = Output.TABLE) -> None:
    """A model with its aliases, or one of its versions."""
    name, version = reference_of(reference)
    with connect() as client:
        if "@" not in reference:
            model = client.models.get(name)
            aliases = {f"@{alias.alias}": f"version {alias.version}" for alias in client.models.aliases(name)}
            shown = {"model": model.name, "description": model.description, "made": model.created_at, **aliases}
            show_item(model, shown, output)
            return
        found = client.models.version(name, version)
    _show_version(found, output)


@app.command("versions")
def list_versions(name: str, output: OutputOption = Output.TABLE) -> None:
    """All versions of a model."""
    columns = (
        ("version", lambda version: number(version.version)),
        ("digest", lambda version: short(version.digest)),
        ("dataset", lambda version: version.lineage.get("dataset")),
        ("formats", lambda version: ", ".join(str(part["format"]) for part in version.formats)),
        ("made", lambda version: version.created_at),
    )
    with connect() as client:
        show_list(client.models.versions(name), columns, output, empty=f"{name} has no versions yet.")


@app.command("alias")
def set_alias(
    name: str,
    alias: str,
    version: Annotated[int | None, typer.Argument(help="Without it the alias is shown.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Point an alias at a version: deployments of NAME@ALIAS follow."""
    with connect() as client:
        if delete:
            client.models.delete_alias(name, alias)
            say(f"Deleted {name}@{alias}.")
            return
        if version is not None:
            found = client.models.set_alias(name, alias, version)
        else:
            found = client.models.alias(name, alias)
    show_item(found, {"alias": f"{name}@{alias}", "version": number(found.version)}, output)


@app.command("download")
def download_model(
    reference: Reference,
    into: Annotated[Path, typer.Option("--into", help="A folder.")] = Path("."),
    output: OutputOption = Output.TABLE,
) -> None:
    """The files of a version, checked against their digests."""
    name, version = reference_of(reference)
    with connect() as client:
        files = client.models.download(name, version, into)
    show_list(
        [{"file": str(path)} for path in files], (("file", lambda file: file["file"]),), output, empty="No files."
    )


@app.command("delete")
def delete_model(reference: Reference, yes: Sure = False) -> None:
    """Delete a model, or with @VERSION one version. What an alias or a deployment uses stays."""
    name, version = reference_of(reference)
    confirm(f"Delete {reference}?", yes)
    with connect() as client:
        if "@" in reference:
            client.models.delete_version(name, version)
        else:
            client.models.delete(name)
    say(f"Deleted {reference}.")


def _show_version(found: ModelVersion, output: Output) -> None:
    """A version: what it takes and gives, its files, and where it comes from."""
    twin = found.twin or {}
    inputs, outputs = (
        ", ".join(_words_of(part) for part in found.signature.get(side, ())) for side in ("inputs", "outputs")
    )
    fields: dict[str, Any] = {
        "model": found.reference,
        "digest": found.digest,
        "formats": ", ".join(str(part["format"]) for part in found.formats),
        "ONNX twin": "kept" if twin.get("kept") else f"not kept: {twin.get('reason')}" if twin else None,
        "takes": inputs,
        "gives": outputs,
        "dataset": found.lineage.get("dataset"),
        "job": found.lineage.get("job"),
        "pushed by": found.lineage.get("by"),
        "source": found.lineage.get("source"),
        **(found.metrics or {}),
        "made": found.created_at,
    }
    show_item(found, fields, output)


def _words_of(part: Mapping[str, Any]) -> str:
    """`carrier string` of a column, `x FP32[?, 784]` of a tensor."""
    if "datatype" not in part:
        return f"{part.get('name')} {part.get('type', '')}".rstrip()
    sizes = ", ".join("?" if size == -1 else str(size) for size in part.get("shape", ()))
    return f"{part.get('name')} {part['datatype']}[{sizes}]"


def _push(client: Client, name: str, files: list[Path], **said: Any) -> ModelVersion:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=stderr(), transient=True) as progress:
        tasks = {
            file.name: progress.add_task(f"Sending {file.name}", total=file.stat().st_size)
            for file in files
            if file.is_file()
        }
        return client.models.push(name, files, sent=lambda file, size: progress.advance(tasks[file], size), **said)


def _metrics_of(pairs: list[str]) -> dict[str, float]:
    metrics = parameters_of(pairs)
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise typer.BadParameter(f"{name}={value!r} is no number.")
    return metrics


def _rows_of(argument: str) -> list[Any]:
    rows = json_of(argument)
    if not isinstance(rows, list):
        raise typer.BadParameter("An example is a list of rows.")
    return rows
