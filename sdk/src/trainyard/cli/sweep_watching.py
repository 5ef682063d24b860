"""A sweep's trials, live; and how the values of a parameter are written on a command line."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import typer
from rich.box import ROUNDED
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trainyard.cli.output import state, stderr
from trainyard.cli.watching import detachable, looked_at
from trainyard.client import Client
from trainyard.resources.sweeps import FINAL
from trainyard.sweep_results import Sweep, Trial

VALUES_HINT = "depth=1..10, lr=log:0.001..0.1, rate=0..1/0.25, kind=gini,entropy"
SHOWN = 20
"""Trials in a table that moves."""
_RANGE = re.compile(r"(log:)?(-?[0-9][0-9.e+-]*)\.\.(-?[0-9][0-9.e+-]*)(?:/([0-9][0-9.e+-]*))?")


def values_of(text: str) -> dict[str, Any]:
    """`1..10`, `0.5..1.0`, `log:0.001..0.1`, `0..1/0.25` (a step) or `a,b,c` (choices, as JSON where they are JSON)."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return {"type": "categorical", "choices": [_value_of(each) for each in text.split(",")]}
    log, *numbers = found.groups()
    try:
        low, high, step = (None if each is None else _number(each) for each in numbers)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no range: {VALUES_HINT}") from None
    whole = all(each is None or isinstance(each, int) for each in (low, high, step))
    values: dict[str, Any] = {"type": "int" if whole else "float", "low": low, "high": high}
    return values | ({"log": True} if log else {}) | ({} if step is None else {"step": step})


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def watch_sweep(
    client: Client, id: str, *, console: Console | None = None, pause: Callable[[float], None] = time.sleep
) -> Sweep:
    """Show a sweep's trials until it is over, and answer it as it ended."""
    out = console or stderr()
    with detachable(f"trainyard sweep watch {id}", f"trainyard sweep cancel {id}"):
        return _live(client, id, out, pause) if out.is_terminal else _lines(client, id, out, pause)


def table_of(sweep: Sweep, limit: int | None = None) -> RenderableType:
    """The trials: state, worth, parameters. With a limit, the best and the newest of them."""
    table = Table(box=ROUNDED, border_style="dim", header_style="bold", title_justify="left")
    done, most = sum(sweep.counts.values()), sweep.budget.get("trials", "?")
    table.title = Text.assemble(("sweep ", "bold"), (sweep.id, "dim"), f"  {done}/{most} trials")
    names = list(sweep.space)
    for title in ("trial", "state", str(sweep.objective.get("metric", "value")), *names):
        table.add_column(title, justify="left" if title == "state" else "right", overflow="fold")
    best = None if sweep.best is None else sweep.best.number
    for trial in _shown(sweep, limit):
        cells = (Text(str(trial.number)), state(trial.phase), _worth(trial))
        said = (Text(_short(trial.parameters.get(name))) for name in names)
        table.add_row(*cells, *said, style="bold green" if trial.number == best else "")
    return table


def _shown(sweep: Sweep, limit: int | None) -> list[Trial]:
    if limit is None or len(sweep.trials) <= limit:
        return list(sweep.trials)
    newest = sweep.trials[-limit + 1 :]
    best = [trial for trial in sweep.trials if sweep.best is not None and trial.number == sweep.best.number]
    return [*(trial for trial in best if trial not in newest), *newest]


def _worth(trial: Trial) -> Text:
    if trial.value is None:
        return Text(trial.message[:60], style="red") if trial.phase == "failed" else Text("")
    return Text(f"{trial.value:.4f}" + (f" @{trial.step}" if trial.phase in ("pruned", "running") else ""))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _live(client: Client, id: str, console: Console, pause: Callable[[float], None]) -> Sweep:
    with Live(console=console, refresh_per_second=4) as live:
        for sweep in looked_at(lambda: client.sweeps.get(id), pause):
            live.update(table_of(sweep, SHOWN))
            if sweep.phase in FINAL:
                return sweep
    raise AssertionError("a sweep is looked at until it is over")


def _lines(client: Client, id: str, console: Console, pause: Callable[[float], None]) -> Sweep:
    seen: dict[int, str] = {}
    for sweep in looked_at(lambda: client.sweeps.get(id), pause):
        for trial in sweep.trials:
            if seen.get(trial.number) != trial.phase and trial.phase != "running":
                said = " ".join(f"{name}={_short(value)}" for name, value in trial.parameters.items())
                line = f"trial {trial.number} {trial.phase} {_worth(trial)} {said}"
                console.print(Text(" ".join(line.split())), soft_wrap=True)
            seen[trial.number] = trial.phase
        if sweep.phase in FINAL:
            console.print(Text(f"sweep {sweep.id} {sweep.phase}"), soft_wrap=True)
            return sweep
    raise AssertionError("a sweep is looked at until it is over")
