"""`trainyard pipeline`."""

from pathlib import Path
from typing import Annotated

import typer

from trainyard.cli.datasets import Sure
from trainyard.cli.output import Output, OutputOption, say, show_item, show_list
from trainyard.cli.runs import show_run, watched
from trainyard.cli.session import confirm, connect, parameters_of, read

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command("put")
def put_pipeline(
    name: str,
    file: Annotated[Path, typer.Argument(help="YAML or JSON; - is standard input.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Create or change a pipeline; every mistake in it is named with its place."""
    with connect() as client:
        pipeline = client.pipelines.put(name, read(file))
    show_item(pipeline, {"pipeline": pipeline.name, "steps": " · ".join(pipeline.steps)}, output)
    say(f"Next: trainyard pipeline run {name} --watch")


@app.command("run")
def run_pipeline(
    name: str,
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE; JSON if it is.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show its progress until it is over.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start a run; steps that would do again what was done are reused."""
    with connect() as client:
        run = client.pipelines.run(name, parameters_of(parameter or []))
        if watch:
            watched(client, run.id, output)
            return
    show_run(run, output)
    say(f"Next: trainyard run watch {run.id}")


@app.command("list")
def list_pipelines(output: OutputOption = Output.TABLE) -> None:
    """All pipelines."""
    columns = (
        ("name", lambda pipeline: pipeline.name),
        ("steps", lambda pipeline: " · ".join(pipeline.steps)),
        ("changed", lambda pipeline: pipeline.updated_at),
    )
    with connect() as client:
        show_list(client.pipelines.list(), columns, output, empty="No pipelines yet: trainyard pipeline put NAME FILE")


@app.command("get")
def get_pipeline(name: str, output: OutputOption = Output.TABLE) -> None:
    """One pipeline: its steps and what each needs."""
    with connect() as client:
        pipeline = client.pipelines.get(name)
    steps = {f"step {step}": _words_of(spec) for step, spec in pipeline.steps.items()}
    parameters = dict(pipeline.parameters) or None
    show_item(pipeline, {"pipeline": pipeline.name, "parameters": parameters, **steps}, output)


@app.command("delete")
def delete_pipeline(name: str, yes: Sure = False) -> None:
    """Delete a pipeline; its runs stay."""
    confirm(f"Delete {name}?", yes)
    with connect() as client:
        client.pipelines.delete(name)
    say(f"Deleted {name}.")


def _words_of(spec: object) -> str:
    if not isinstance(spec, dict):
        return ""
    needs = spec.get("needs") or []
    return str(spec.get("kind")) + (f", after {', '.join(needs)}" if needs else "")
