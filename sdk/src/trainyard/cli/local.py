"""The suite on this machine: `up`, `down`, `status`, `backup`, `restore`.

The work is done by the distribution `trainyard-local`.
"""

import importlib
import importlib.util
import os
from typing import Annotated, Any

import typer

from trainyard.cli.output import Output, OutputOption, show_json, show_list
from trainyard.cli.session import connect
from trainyard.errors import TrainyardError

SUITE = "trainyard_local"

HomeOption = Annotated[
    str | None, typer.Option("--home", help="The folder of all its data. [$TRAINYARD_HOME, ~/.trainyard]")
]
FolderArgument = Annotated[str, typer.Argument(help="The folder of the backup.")]
PortOption = Annotated[int | None, typer.Option("--port", help="Of the gateway. [$TRAINYARD_PORT, 8080]")]


class NotInstalled(TrainyardError):
    """The suite itself is not part of the client."""


def up(home: HomeOption = None, port: PortOption = None, output: OutputOption = Output.TABLE) -> None:
    """Start the suite on this machine."""
    _suite().up(home, port, str(output))


def down(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Stop it; all data stays."""
    _suite().down(home, str(output))


def status(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """What runs, and where; with TRAINYARD_URL set, the services of that suite."""
    if os.environ.get("TRAINYARD_URL") or not _installed():
        ready = _remote(output)
    else:
        ready = _suite().status(home, str(output))["phase"] == "up"
    if not ready:
        raise typer.Exit(1)


def backup(folder: FolderArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Copy all data of the suite on this machine to a new folder; it may run."""
    _suite().backup(folder, home, str(output))


def restore(folder: FolderArgument, home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Fill an empty home from a backup, and check every object."""
    _suite().restore(folder, home, str(output))


def _remote(output: Output) -> bool:
    with connect() as client:
        found = client.status()
    services = found.get("services", {})
    if output is Output.JSON:
        show_json(found)
    else:
        columns = (("service", lambda pair: pair[0]), ("ready", lambda pair: pair[1].get("ready", False)))
        show_list(services.items(), columns, output, empty="The gateway names no services.")
    return all(service.get("ready") for service in services.values())


def _installed() -> bool:
    return importlib.util.find_spec(SUITE) is not None


def _suite() -> Any:
    if not _installed():
        raise NotInstalled(
            "The suite is not installed here, only its client. Install trainyard-local from Trainyard's repository "
            "(`make install`), or set TRAINYARD_URL and TRAINYARD_API_KEY to those of a running suite."
        )
    return importlib.import_module(f"{SUITE}.cli")
