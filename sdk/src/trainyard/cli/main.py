"""The tree of commands. A group's module is imported when it is used: `trainyard --help` loads none of them."""

import importlib
import importlib.metadata
import sys
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from trainyard.cli import failures
from trainyard.errors import TrainyardError


class Place(NamedTuple):
    """Where a command lives: a Typer or a function, and its line in the help."""

    module: str
    attribute: str
    help: str


MACHINE, PLATFORM, ACCESS = "On this machine", "Data to predictions", "Access"
COMMANDS: dict[str, Place] = {
    "up": Place("local", "up", "Start the suite on this machine."),
    "down": Place("local", "down", "Stop it; all data stays."),
    "status": Place("local", "status", "What runs, and where."),
    "backup": Place("local", "backup", "Copy all its data to a new folder."),
    "restore": Place("local", "restore", "Fill an empty home from a backup."),
    "dataset": Place("datasets", "app", "Datasets: upload, look at rows, rejects and profile."),
    "job": Place("jobs", "app", "Training jobs: run, follow, cancel."),
    "model": Place("models", "app", "Models: versions, aliases, downloads."),
    "deployment": Place("deployments", "app", "Deployments: models that answer."),
    "predict": Place("deployments", "predict", "Ask a deployment."),
    "pipeline": Place("pipelines", "app", "Pipelines: put, run."),
    "run": Place("runs", "app", "Pipeline runs: watch, cancel, resume."),
    "key": Place("access", "keys", "API keys: create, list, revoke."),
    "project": Place("access", "projects", "Projects and their members."),
    "whoami": Place("access", "whoami", "Who the API key says you are."),
}
PANELS = {
    **dict.fromkeys(("up", "down", "status", "backup", "restore"), MACHINE),
    **dict.fromkeys(("key", "project", "whoami"), ACCESS),
}


class LazyGroup(TyperGroup):
    """Knows the names and helps of its commands, and loads the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        """Enough of each command to be listed, in the order of the table."""
        listed = {
            name: TyperCommand(name, help=place.help, rich_help_panel=PANELS.get(name, PLATFORM))
            for name, place in COMMANDS.items()
        }
        super().__init__(**{**attributes, "commands": listed})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The whole command, for the one that is called."""
        if args[0] not in COMMANDS and args[0].removesuffix("s") in COMMANDS:
            args = [args[0].removesuffix("s"), *args[1:]]  # `models` for `model`
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name), rest

    def invoke(self, ctx: Any) -> Any:
        """Say what went wrong in words, with an exit code that a script can tell apart."""
        try:
            return super().invoke(ctx)
        except TrainyardError as error:
            sys.stderr.write(failures.words_of(error))
            raise typer.Exit(failures.exit_code_of(error)) from error


def load(name: str | None) -> Any:
    """The command of this name."""
    place = COMMANDS[str(name)]
    found = getattr(importlib.import_module(f"trainyard.cli.{place.module}"), place.attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name, help=place.help)(found)
        found = single
    else:
        found.info.help = place.help
    command = typer.main.get_command(found)
    command.name = name
    return command


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"trainyard {importlib.metadata.version('trainyard')}\n")
        raise typer.Exit


@app.callback()
def trainyard(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From raw data to a model that serves.

    The suite is found at TRAINYARD_URL with TRAINYARD_API_KEY, or by the file that `trainyard up` writes.
    """
