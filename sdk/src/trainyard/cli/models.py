"""`trainyard model`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from trainyard.cli.datasets import Sure
from trainyard.cli.output import Output, OutputOption, number, say, short, show_item, show_list
from trainyard.cli.session import confirm, connect, reference_of

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
    twin = found.twin or {}
    fields: dict[str, Any] = {
        "model": found.reference,
        "digest": found.digest,
        "formats": ", ".join(str(part["format"]) for part in found.formats),
        "ONNX twin": "kept" if twin.get("kept") else f"not kept: {twin.get('reason')}" if twin else None,
        "dataset": found.lineage.get("dataset"),
        "job": found.lineage.get("job"),
        **(found.metrics or {}),
        "made": found.created_at,
    }
    show_item(found, fields, output)


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
