"""`trainyard run`."""

from typing import Annotated

import typer

from trainyard.cli.datasets import Sure
from trainyard.cli.failures import Failed
from trainyard.cli.output import Output, OutputOption, say, show_json, show_list, state, stdout
from trainyard.cli.session import confirm, connect
from trainyard.cli.watching import failure_of, table_of, watch_run
from trainyard.client import Client
from trainyard.results import Run

app = typer.Typer(no_args_is_help=True, add_completion=False)

Id = Annotated[str, typer.Argument(metavar="RUN")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show its progress until it is over.")]

COLUMNS = (
    ("id", lambda run: run.id),
    ("pipeline", lambda run: run.pipeline),
    ("state", lambda run: state(run.phase)),
    ("message", lambda run: run.status.message or ""),
    ("started", lambda run: run.created_at),
)


@app.command("list")
def list_runs(
    pipeline: Annotated[str | None, typer.Option("--pipeline", help="Of this one only.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """All runs, newest first."""
    with connect() as client:
        show_list(client.runs.list(pipeline), COLUMNS, output, empty="No runs yet: trainyard pipeline run NAME")


@app.command("get")
def get_run(id: Id, output: OutputOption = Output.TABLE) -> None:
    """One run with its steps."""
    with connect() as client:
        show_run(client.runs.get(id), output)


@app.command("watch")
def watch(id: Id, output: OutputOption = Output.TABLE) -> None:
    """Show a run's progress until it is over; Ctrl-C leaves it running."""
    with connect() as client:
        watched(client, id, output)


@app.command("cancel")
def cancel_run(id: Id, output: OutputOption = Output.TABLE) -> None:
    """Stop a run."""
    with connect() as client:
        show_run(client.runs.cancel(id), output)


@app.command("resume")
def resume_run(id: Id, watch: Watch = False, output: OutputOption = Output.TABLE) -> None:
    """Go on from the step that failed; what succeeded is not done again."""
    with connect() as client:
        run = client.runs.resume(id)
        if watch:
            watched(client, id, output)
            return
    show_run(run, output)
    say(f"Next: trainyard run watch {id}")


@app.command("delete")
def delete_run(id: Id, yes: Sure = False) -> None:
    """Delete a run that is over; what it made stays."""
    confirm(f"Delete run {id}?", yes)
    with connect() as client:
        client.runs.delete(id)
    say(f"Deleted run {id}.")


def show_run(run: Run, output: Output) -> None:
    """A run and its steps, on stdout."""
    if output is Output.JSON:
        show_json(run)
    else:
        stdout().print(table_of(run))


def watched(client: Client, id: str, output: Output) -> None:
    """Watch on stderr; the run as it ended on stdout when a program reads. A run that failed is a failure."""
    run = watch_run(client, id)
    if output is Output.JSON:
        show_json(run)
    if run.phase != "succeeded":
        raise Failed(failure_of(run))
