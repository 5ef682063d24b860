"""`trainyard sweep`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from trainyard.bundles import NotABundle
from trainyard.cli.datasets import Sure
from trainyard.cli.failures import Failed
from trainyard.cli.output import Output, OutputOption, say, show_item, show_json, show_list, state, stdout
from trainyard.cli.session import confirm, connect, document_of
from trainyard.cli.sweep_watching import VALUES_HINT, table_of, values_of, watch_sweep
from trainyard.client import Client
from trainyard.sweep_results import Sweep

app = typer.Typer(no_args_is_help=True, add_completion=False)

Id = Annotated[str, typer.Argument(metavar="SWEEP")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show its trials until it is over.")]

COLUMNS = (
    ("id", lambda sweep: sweep.id),
    ("state", lambda sweep: state(sweep.phase)),
    ("trials", lambda sweep: f"{sum(sweep.counts.values())}/{sweep.budget.get('trials', '?')}"),
    ("objective", lambda sweep: sweep.objective.get("metric")),
    ("best", lambda sweep: sweep.best.value if sweep.best else None),
    ("made", lambda sweep: sweep.created_at),
)


@app.command("run")
def run_sweep(
    file: Annotated[Path | None, typer.Option("--file", help="YAML or JSON; other options win over it.")] = None,
    job: Annotated[Path | None, typer.Option("--job", help="A file as of `trainyard job run --file`.")] = None,
    vary: Annotated[list[str] | None, typer.Option(help=f"A parameter's values: {VALUES_HINT}")] = None,
    metric: Annotated[str | None, typer.Option(help="What tells how good a trial is: roc_auc")] = None,
    minimize: Annotated[bool, typer.Option("--minimize", help="Less of the metric is better.")] = False,
    method: Annotated[str | None, typer.Option(help="tpe, random or grid")] = None,
    trials: Annotated[int | None, typer.Option(help="How many at most.")] = None,
    time: Annotated[str | None, typer.Option(help="For how long at most: 30m, 2h")] = None,
    parallelism: Annotated[int | None, typer.Option(help="How many at one time.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Stop trials that fall behind the others.")] = False,
    model: Annotated[str | None, typer.Option(help="Register the best as a version of this model.")] = None,
    watch: Watch = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run a job with other parameters again and again, and find the best."""
    spec: dict[str, Any] = document_of(file) if file else {}
    if job is not None:
        spec["job"] = document_of(job)
    for name, values in map(_varied, vary or []):
        spec["space"] = {**spec.get("space", {}), name: values}
    _lay(spec, "objective", {"metric": metric, "direction": "minimize" if minimize else None})
    _lay(spec, "algorithm", {"method": method})
    _lay(spec, "budget", {"trials": trials, "time": time})
    _lay(spec, "job", {"register": None if model is None else {"model": model}})
    if parallelism is not None:
        spec["parallelism"] = parallelism
    if prune:
        spec.setdefault("pruning", {})
    beside = job or file
    with connect() as client:
        _send_bundle(client, spec, Path() if beside is None else beside.parent)
        sweep = client.sweeps.create(spec)
        if watch:
            watched(client, sweep.id, output)
            return
    show_sweep(sweep, output)
    say(f"Next: trainyard sweep watch {sweep.id}")


@app.command("list")
def list_sweeps(output: OutputOption = Output.TABLE) -> None:
    """All sweeps, newest first."""
    with connect() as client:
        show_list(client.sweeps.list(), COLUMNS, output, empty="No sweeps yet: trainyard sweep run")


@app.command("show")
def show(id: Id, output: OutputOption = Output.TABLE) -> None:
    """One sweep: its trials, the best, and what matters."""
    with connect() as client:
        show_sweep(client.sweeps.get(id), output)


app.command("get", hidden=True)(show)  # as of other nouns


@app.command("watch")
def watch(id: Id, output: OutputOption = Output.TABLE) -> None:
    """Show a sweep's trials until it is over; Ctrl-C leaves it running."""
    with connect() as client:
        watched(client, id, output)


@app.command("cancel")
def cancel_sweep(id: Id, output: OutputOption = Output.TABLE) -> None:
    """Stop a sweep and its trials."""
    with connect() as client:
        show_sweep(client.sweeps.cancel(id), output)


@app.command("delete")
def delete_sweep(id: Id, yes: Sure = False) -> None:
    """Forget a sweep that is over; its jobs stay."""
    confirm(f"Delete sweep {id}?", yes)
    with connect() as client:
        client.sweeps.delete(id)
    say(f"Deleted sweep {id}.")


def show_sweep(sweep: Sweep, output: Output) -> None:
    """A sweep and its trials, on stdout."""
    if output is Output.JSON:
        show_json(sweep)
        return
    if sweep.trials:
        stdout().print(table_of(sweep))
    fields: dict[str, Any] = {
        "sweep": sweep.id,
        "state": state(sweep.phase),
        "message": sweep.status.message,
        "objective": f"{sweep.objective.get('direction', '')} {sweep.objective.get('metric', '')}".strip(),
        "trials": ", ".join(f"{count} {phase}" for phase, count in sweep.counts.items() if count),
        "best": sweep.best.value if sweep.best else None,
        "with": dict(sweep.best.parameters) if sweep.best else None,
        "of job": sweep.best.job if sweep.best else None,
        "importance": ", ".join(f"{name} {share:.0%}" for name, share in sweep.importance.items()),
        "core-hours": sweep.core_hours,
        "model": f"{sweep.model.name}@{sweep.model.version}" if sweep.model else None,
        "made": sweep.created_at,
        "finished": sweep.finished_at,
    }
    show_item(sweep, fields, output)


def watched(client: Client, id: str, output: Output) -> None:
    """Watch on stderr; the sweep as it ended on stdout. One that failed is a failure."""
    sweep = watch_sweep(client, id)
    show_sweep(sweep, output)
    if sweep.phase != "succeeded":
        raise Failed(f"The sweep {sweep.phase}: {sweep.status.message or sweep.status.reason or 'it does not say why'}")


def _lay(spec: dict[str, Any], member: str, given: dict[str, Any]) -> None:
    said = {name: value for name, value in given.items() if value is not None}
    if said:
        spec[member] = {**(spec.get(member) or {}), **said}


def _varied(text: str) -> tuple[str, dict[str, Any]]:
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUES: {VALUES_HINT}")
    return name, values_of(values)


def _send_bundle(client: Client, spec: dict[str, Any], base: Path) -> None:
    """A bundle in the job is a folder beside the file, or a digest."""
    job = spec.get("job") or {}
    bundle = job.get("bundle")
    if not isinstance(bundle, str) or bundle.startswith("sha256:"):
        return
    try:
        spec["job"] = {"kind": "bundle", **job, "bundle": client.jobs.send(base / bundle)}
    except NotABundle as error:
        raise typer.BadParameter(str(error)) from error
