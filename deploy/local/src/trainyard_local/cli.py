"""`up`, `down`, `status`, `backup` and `restore`, for people: progress goes to stderr, what was asked for to stdout."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trainyard.config import home_of
from trainyard_local import backups, board, logs, memory, ports
from trainyard_local.board import Phase
from trainyard_local.home import DEFAULT_PORT, Home, Refused

PATIENCE = timedelta(minutes=5)


def up(home: str | None = None, port: int | None = None, output: str = "table") -> dict[str, Any]:
    """Start the suite, or find it started, and wait until it is ready."""
    place = _home(home)
    wanted = port or int(os.environ.get("TRAINYARD_PORT") or DEFAULT_PORT)
    place.make()
    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    process = None if place.runner() else _daemon(place, wanted)
    state = _await_up(place, process, console)
    found = _found(place, state)
    if port and port != state["port"]:
        raise Refused(f"It is up at {found['url']} already. To change the port: `trainyard down`, then up again.")
    if output == "json":
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        took = f" in {time.monotonic() - began:.1f} s" if process else ""
        console.print(f"[green]✔[/] Trainyard is up{took}")
        for label, value in (
            ("API", f"{found['url']}/v1"),
            ("Swagger UI", found["docs"]),
            ("Key", found["credentials"]),
        ):
            console.print(f"  {label:<11}{value}", soft_wrap=True)
        console.print("  Stop with  trainyard down  (all data stays)")
    return found


def down(home: str | None = None, output: str = "table") -> dict[str, Any]:
    """Stop the suite and wait until all of it has ended."""
    place = _home(home)
    console = Console(stderr=True, highlight=False)
    pid = place.runner()
    if pid:
        os.kill(pid, signal.SIGTERM)
        with console.status("Stopping …") as shown:
            until = time.monotonic() + PATIENCE.total_seconds()
            while place.runner() == pid:
                if time.monotonic() > until:
                    raise Refused(f"It is still running, as process {pid}. See {place.log('supervisor')}.")
                shown.update(f"{board.read(place.state).get('message', 'stopping')} …")
                time.sleep(0.1)
    stopped = {"home": str(place.folder), "stopped": bool(pid)}
    if output == "json":
        sys.stdout.write(json.dumps(stopped, indent=2) + "\n")
    else:
        said = "[green]✔[/] Stopped; all data stays in" if pid else "Nothing was running in"
        console.print(f"{said} {place.folder}", soft_wrap=True)
    return stopped


def status(home: str | None = None, output: str = "table") -> dict[str, Any]:
    """What runs, and where."""
    place = _home(home)
    state = board.read(place.state) if place.runner() else {}
    programs = _programs(state)
    shown = {
        "running": bool(state),
        "phase": state.get("phase", Phase.DOWN),
        "home": str(place.folder),
        "url": _url(state["port"]) if state else None,
        "memory": sum(program["memory"] or 0 for program in programs),
        "programs": programs,
    }
    if output == "json":
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        _print_status(shown, Console(highlight=False))
    return shown


def backup(folder: str, home: str | None = None, output: str = "table") -> dict[str, Any]:
    """Copy all data to a new folder, while the suite runs or not."""
    console = Console(stderr=True, highlight=False)
    with console.status("Copying …"):
        made = backups.backup(_home(home), Path(folder).expanduser().absolute())
    if output == "json":
        sys.stdout.write(json.dumps(made, indent=2) + "\n")
    else:
        console.print(
            f"[green]✔[/] {made['objects']} objects ({_megabytes(made['bytes'])}) and the database are in "
            f"{made['folder']}",
            soft_wrap=True,
        )
    return made


def restore(folder: str, home: str | None = None, output: str = "table") -> dict[str, Any]:
    """Fill an empty home from a backup."""
    console = Console(stderr=True, highlight=False)
    with console.status("Restoring …"):
        made = backups.restore(_home(home), Path(folder).expanduser().absolute())
    if output == "json":
        sys.stdout.write(json.dumps(made, indent=2) + "\n")
    else:
        console.print(
            f"[green]✔[/] Restored to {made['home']}, as of {made['at']}; every object was read and is whole",
            soft_wrap=True,
        )
        console.print("  Start it with  trainyard up")
    return made


def _home(home: str | None) -> Home:
    return Home(Path(home).expanduser() if home else home_of(os.environ))


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _found(place: Home, state: Mapping[str, Any]) -> dict[str, Any]:
    url = _url(state["port"])
    return {"url": url, "docs": f"{url}/docs", "home": str(place.folder), "credentials": str(place.credentials)}


def _daemon(place: Home, port: int) -> "subprocess.Popen[bytes]":
    if not ports.is_free(port):
        raise Refused(
            f"Port {port} of this machine is taken by another program. "
            f"Choose another one: TRAINYARD_PORT={port + 10} trainyard up"
        )
    # In a session of its own: Ctrl-C and the end of the terminal are not meant for it.
    with place.log("supervisor").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - this very package
            [sys.executable, "-m", "trainyard_local.daemon", str(place.folder), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _await_up(place: Home, process: "subprocess.Popen[bytes] | None", console: Console) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE.total_seconds()
    with console.status("Starting …") as shown:
        while time.monotonic() < until:
            ended = process is not None and process.poll() is not None
            pid = place.runner()  # ours, or of another `up` at the same time, which was first
            state = board.read(place.state)
            if pid and state.get("pid") == pid:
                if state["phase"] == Phase.UP:
                    return state
                shown.update(_progress(state))
            elif ended and not pid:
                raise Refused(_why(place, process, state))
            time.sleep(0.05)
    raise Refused(f"It is not ready yet: {_progress(board.read(place.state))}. It goes on trying; logs: {place.logs}")


def _why(place: Home, process: "subprocess.Popen[bytes] | None", state: Mapping[str, Any]) -> str:
    if process is not None and state.get("pid") == process.pid and state.get("phase") == Phase.FAILED:
        return f"It could not start. {state['message']}"
    log = place.log("supervisor")
    return f"It ended before it was ready. The end of {log}:\n{logs.tail(log)}"


def _progress(state: Mapping[str, Any]) -> str:
    waiting = [name for name, program in state.get("programs", {}).items() if not program["ready"]]
    return f"{state.get('message', 'starting')} …" + (f" ({', '.join(waiting)})" if waiting else "")


def _programs(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries: Mapping[str, Mapping[str, Any]] = state.get("programs", {})
    supervisor = {"supervisor": {"pid": state["pid"], "ready": True, "restarts": 0, "port": None}} if state else {}
    sizes = memory.used([entry["pid"] for entry in entries.values() if entry["pid"]])
    own = memory.used_alone(state["pid"]) if state else None
    rows = []
    for name, entry in {**entries, **supervisor}.items():
        size = own if name == "supervisor" else sizes.get(entry["pid"])
        rows.append({"name": name, **entry, "memory": size})
    return rows


def _print_status(shown: Mapping[str, Any], console: Console) -> None:
    if not shown["running"]:
        console.print(f"Nothing runs in {shown['home']}. Start it with `trainyard up`.", soft_wrap=True)
        return
    table = Table(title=f"{shown['url']} — {shown['phase']}", title_justify="left", box=None, header_style="bold")
    for column in ("name", "pid", "ready", "restarts", "memory", "port"):
        table.add_column(column, justify="left" if column in ("name", "ready") else "right")
    for program in shown["programs"]:
        ready = "[green]yes[/]" if program["ready"] else "[red]no[/]"
        pid, port, size = program["pid"], program["port"], program["memory"]
        cells = (str(pid or "-"), ready, str(program["restarts"]), _megabytes(size), str(port or "-"))
        table.add_row(program["name"], *cells)
    table.add_row("total", "", "", "", _megabytes(shown["memory"] or None), "")
    console.print(table)


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.0f} MB"
