"""`trainyard job`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from trainyard.cli.datasets import Sure
from trainyard.cli.failures import Failed
from trainyard.cli.output import Output, OutputOption, number, say, show_item, show_list, state, stdout
from trainyard.cli.session import confirm, connect, document_of, json_of
from trainyard.cli.watching import detachable
from trainyard.client import Client
from trainyard.results import Job

app = typer.Typer(no_args_is_help=True, add_completion=False)

Id = Annotated[str, typer.Argument(metavar="JOB")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")]

COLUMNS = (
    ("id", lambda job: job.id),
    ("state", lambda job: state(job.phase)),
    ("dataset", lambda job: job.dataset),
    ("target", lambda job: job.target),
    ("model", lambda job: f"{job.model.name}@{job.model.version}" if job.model else None),
    ("made", lambda job: job.created_at),
)


@app.command("run")
def run_job(
    file: Annotated[Path | None, typer.Option("--file", help="YAML or JSON; other options win over it.")] = None,
    dataset: Annotated[str | None, typer.Option(help="flights, flights@3 …")] = None,
    task: Annotated[str | None, typer.Option(help="classification or regression")] = None,
    target: Annotated[str | None, typer.Option(help="The column to learn.")] = None,
    estimator: Annotated[str | None, typer.Option(help="sklearn.ensemble.HistGradientBoostingClassifier")] = None,
    parameters: Annotated[str | None, typer.Option(help="The estimator's, as JSON or @FILE.")] = None,
    model: Annotated[str | None, typer.Option(help="Register the result as a version of this model.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow its log until it is over.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Train a model."""
    spec: dict[str, Any] = document_of(file) if file else {}
    given = {"dataset": dataset, "task": task, "target": target}
    spec |= {name: value for name, value in given.items() if value is not None}
    if estimator is not None:
        spec["estimator"] = {"class": estimator, "parameters": json_of(parameters or "{}")}
    if model is not None:
        spec["register"] = {"model": model}
    with connect() as client:
        job = client.jobs.create(spec)
        if watch:
            job = _followed(client, job)
    _show(job, output)
    if watch:
        _require_success(job)
    else:
        say(f"Next: trainyard job logs --follow {job.id}")


@app.command("list")
def list_jobs(output: OutputOption = Output.TABLE) -> None:
    """All jobs, newest first."""
    with connect() as client:
        show_list(client.jobs.list(), COLUMNS, output, empty="No jobs yet: trainyard job run")


@app.command("get")
def get_job(id: Id, output: OutputOption = Output.TABLE) -> None:
    """One job."""
    with connect() as client:
        _show(client.jobs.get(id), output)


@app.command("logs")
def print_logs(id: Id, follow: Follow = False, output: OutputOption = Output.TABLE) -> None:
    """What a job wrote."""
    with connect() as client, detachable(f"trainyard job logs --follow {id}", f"trainyard job cancel {id}"):
        lines = client.jobs.logs(id, follow=follow)
        if output is Output.JSON and not follow:
            show_list(lines, (), output, empty="")
            return
        for line in lines:
            stdout().print(line.message, markup=False, soft_wrap=True)


@app.command("metrics")
def print_metrics(id: Id, follow: Follow = False, output: OutputOption = Output.TABLE) -> None:
    """What a job measured."""
    columns = (
        ("name", lambda point: point.name),
        ("step", lambda point: number(point.step)),
        ("value", lambda point: number(point.value)),
    )
    with connect() as client, detachable(f"trainyard job metrics --follow {id}", f"trainyard job cancel {id}"):
        show_list(client.jobs.metrics(id, follow=follow), columns, output, empty="It measured nothing yet.")


@app.command("cancel")
def cancel_job(id: Id, output: OutputOption = Output.TABLE) -> None:
    """Stop a job."""
    with connect() as client:
        _show(client.jobs.cancel(id), output)


@app.command("delete")
def delete_job(id: Id, yes: Sure = False) -> None:
    """Delete a job that is over; the model it made stays."""
    confirm(f"Delete job {id}?", yes)
    with connect() as client:
        client.jobs.delete(id)
    say(f"Deleted job {id}.")


def _followed(client: Client, job: Job) -> Job:
    with detachable(f"trainyard job logs --follow {job.id}", f"trainyard job cancel {job.id}"):
        for line in client.jobs.logs(job.id, follow=True):
            say(line.message)
        return client.jobs.wait(job.id)


def _require_success(job: Job) -> None:
    if job.phase != "succeeded":
        raise Failed(f"The job {job.phase}: {job.status.message or job.status.reason or 'it does not say why'}")


def _show(job: Job, output: Output) -> None:
    fields = {
        "job": job.id,
        "state": state(job.phase),
        "message": job.status.message,
        "dataset": job.dataset,
        "dataset digest": job.dataset_digest,
        "target": job.target,
        "attempt": number(job.attempt),
        "model": f"{job.model.name}@{job.model.version}" if job.model else None,
        **(job.metrics or {}),
        "made": job.created_at,
        "finished": job.finished_at,
    }
    show_item(job, fields, output)
