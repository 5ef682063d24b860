"""`trainyard deployment`, and `trainyard predict`."""

from typing import Annotated, Any

import typer

from trainyard.cli.datasets import Sure
from trainyard.cli.failures import Failed
from trainyard.cli.output import Output, OutputOption, number, say, show_item, show_json, show_list, state, stderr
from trainyard.cli.session import confirm, connect, json_of
from trainyard.cli.watching import detachable, watch_batch
from trainyard.results import Batch, Deployment

app = typer.Typer(no_args_is_help=True, add_completion=False)

COLUMNS = (
    ("name", lambda deployment: deployment.name),
    ("state", lambda deployment: state(deployment.phase)),
    ("asked for", lambda deployment: _asked_for(deployment)),
    ("serves", lambda deployment: ", ".join(deployment.serves)),
    ("made", lambda deployment: deployment.created_at),
)


BATCH_COLUMNS = (
    ("batch", lambda batch: batch.id),
    ("state", lambda batch: state(batch.phase)),
    ("dataset", lambda batch: batch.dataset),
    ("rows", lambda batch: _rows_of(batch)),
    ("result", lambda batch: batch.made),
    ("made", lambda batch: batch.created_at),
)


@app.command("put")
def put_deployment(
    name: str,
    models: Annotated[list[str], typer.Argument(metavar="MODEL[=WEIGHT]...", help="flight-delays@champion, or …=90")],
    concurrency: Annotated[int | None, typer.Option(help="Requests that a model works on at one time")] = None,
    waiting: Annotated[int | None, typer.Option(help="Requests that may wait; more are told to come again")] = None,
    memory_bytes: Annotated[int | None, typer.Option(help="Of a model, loaded")] = None,
    no_limits: Annotated[bool, typer.Option("--no-limits", help="None of these three any more")] = False,
    pinned: Annotated[bool | None, typer.Option(help="Keep it in memory, also when nobody asks for it")] = None,
    wait: Annotated[bool, typer.Option(help="Until it answers.")] = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Serve a model, or split requests over several by weight.

    Limits stay as they are when none is named; one that is named takes the place of all three.
    """
    limits = _limits_of({"concurrency": concurrency, "waiting": waiting, "memory_bytes": memory_bytes}, no_limits)
    with connect() as client:
        deployment = client.deployments.put(name, _models_of(models), limits=limits, pinned=pinned)
        if wait:
            with stderr().status(f"Loading {', '.join(models)} …"):
                deployment = client.deployments.wait(name)
    _show(deployment, output)
    if deployment.phase == "failed":
        raise Failed(f"{name} failed: {deployment.status.message or deployment.status.reason}")


@app.command("list")
def list_deployments(output: OutputOption = Output.TABLE) -> None:
    """All deployments."""
    with connect() as client:
        empty = "No deployments yet: trainyard deployment put NAME MODEL"
        show_list(client.deployments.list(), COLUMNS, output, empty=empty)


@app.command("get")
def get_deployment(name: str, output: OutputOption = Output.TABLE) -> None:
    """One deployment, and what it serves now."""
    with connect() as client:
        _show(client.deployments.get(name), output)


@app.command("delete")
def delete_deployment(name: str, yes: Sure = False) -> None:
    """Stop serving; the model stays."""
    confirm(f"Stop serving {name}?", yes)
    with connect() as client:
        client.deployments.delete(name)
    say(f"Deleted {name}.")


@app.command("batch")
def run_batch(
    name: str,
    dataset: Annotated[str, typer.Option("--dataset", help="The version to ask about: flights@3, or flights")],
    into: Annotated[str, typer.Option("--into", help="The dataset that the answers become a version of")],
    split: Annotated[str | None, typer.Option(help="train or held_out: only these rows")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Carry over this column, and others that are named so; by default all")
    ] = None,
    watch: Annotated[bool, typer.Option(help="Until it is over.")] = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask about every row of a dataset version; the answer is a dataset version."""
    with connect() as client:
        batch = client.deployments.batch(name, dataset, into, split=split, columns=column)
        if watch:
            attach, stop = (
                f"trainyard deployment batches {name}",
                f"trainyard deployment cancel-batch {name} {batch.id}",
            )
            with detachable(attach, stop):
                batch = watch_batch(client, batch)
    _show_batch(batch, output)
    if watch and batch.phase != "succeeded":
        raise Failed(f"The batch {batch.phase}: {batch.status.message or batch.status.reason or 'it does not say why'}")


@app.command("batches")
def list_batches(name: str, output: OutputOption = Output.TABLE) -> None:
    """All batches of a deployment, the newest first."""
    with connect() as client:
        empty = f"No batches yet: trainyard deployment batch {name} --dataset … --into …"
        show_list(client.deployments.batches(name), BATCH_COLUMNS, output, empty=empty)


@app.command("cancel-batch")
def cancel_batch(name: str, id: str, output: OutputOption = Output.TABLE) -> None:
    """Stop a batch."""
    with connect() as client:
        _show_batch(client.deployments.cancel_batch(name, id), output)


def predict(
    name: Annotated[str, typer.Argument(metavar="DEPLOYMENT")],
    data: Annotated[str, typer.Option("--data", "-d", help="A row, a list of rows, or {rows: …}: JSON, @FILE or @-")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask a deployment."""
    body = json_of(data)
    columns: list[str] | None = None
    if isinstance(body, dict) and "rows" in body:
        body, columns = body["rows"], body.get("columns")
    rows: list[Any] = body if isinstance(body, list) else [body]
    with connect() as client:
        answer = client.predict(name, rows, columns)
    if output is Output.JSON:
        show_json(answer)
        return
    titles = tuple((title, _member(title)) for title in (answer.predictions[0] if answer.predictions else {}))
    show_list(answer.predictions, titles, output, empty="No rows were given.")
    say(f"by {answer.model}@{answer.version}")


def _models_of(texts: list[str]) -> str | list[dict[str, Any]]:
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    models = []
    for text in texts:
        model, _, weight = text.partition("=")
        if not weight.isdigit():
            raise typer.BadParameter(f"{text!r}: with several models each needs a weight, MODEL=WEIGHT.")
        models.append({"model": model, "weight": int(weight)})
    return models


def _limits_of(named: dict[str, int | None], none: bool) -> dict[str, int] | None:
    """Those that are named; None: as they are."""
    limits = {name: value for name, value in named.items() if value is not None}
    if none and limits:
        raise typer.BadParameter("--no-limits leaves none, and others are named.")
    return limits if limits or none else None


def _show(deployment: Deployment, output: Output) -> None:
    fields = {
        "deployment": deployment.name,
        "state": state(deployment.phase),
        "message": deployment.status.message,
        "asked for": _asked_for(deployment),
        "serves": ", ".join(deployment.serves),
        "limits": ", ".join(f"{name} {value:,}" for name, value in deployment.limits.items() if value is not None)
        or None,
        "pinned": "yes" if deployment.pinned else None,
        "revision": number(deployment.revision.id) if deployment.revision else None,  # type: ignore[arg-type]  # a name
        "changed": deployment.updated_at,
    }
    show_item(deployment, fields, output)


def _show_batch(batch: Batch, output: Output) -> None:
    fields = {
        "batch": batch.id,
        "state": state(batch.phase),
        "message": batch.status.message,
        "dataset": batch.dataset,
        "rows": _rows_of(batch),
        "refused": number(batch.progress.get("refused", 0)),
        "result": batch.made,
        "made": batch.created_at,
        "finished": batch.finished_at,
    }
    show_item(batch, fields, output)


def _rows_of(batch: Batch) -> str:
    return f"{batch.progress.get('rows_done', 0):,} of {batch.progress.get('rows', 0):,}"


def _asked_for(deployment: Deployment) -> str:
    """The references; with their weights where there are several."""
    if len(deployment.models) == 1:
        return str(deployment.models[0]["model"])
    return ", ".join(f"{part['model']} ({part['weight']})" for part in deployment.models)


def _member(name: str) -> Any:
    return lambda item: item.get(name)
