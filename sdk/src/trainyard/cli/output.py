"""Data on stdout, as a table for people or JSON for programs; everything else on stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from trainyard.results import Result

WIDE = 240  # nothing is cut when another program reads

Column = tuple[str, Callable[[Any], Any]]


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", envvar="TRAINYARD_OUTPUT", help="table for people, json for programs.")
]

STYLES = {
    "ready": ("✔", "green"),
    "succeeded": ("✔", "green"),
    "reused": ("≡", "green"),
    "running": ("●", "cyan"),
    "parsing": ("●", "cyan"),
    "pending": ("○", "yellow"),
    "waiting": ("○", "dim"),
    "skipped": ("·", "dim"),
    "cancelled": ("■", "yellow"),
    "failed": ("✘", "red"),
}


def stdout() -> Console:
    """For data."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def stderr() -> Console:
    """For messages, progress and questions."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else WIDE, highlight=False)


def say(message: RenderableType) -> None:
    """A message."""
    stderr().print(message, soft_wrap=True)


def show_json(value: Any) -> None:
    """JSON that can be piped."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def show_list(items: Iterable[Any], columns: Sequence[Column], output: Output, *, empty: str) -> None:
    """Many things: a row for each."""
    if output is Output.JSON:
        show_json(list(items))
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    numeric = {"version", "rows", "rejected", "line", "step", "value", "size", "attempt", "latest"}
    for title, _ in columns:
        table.add_column(title, justify="right" if title in numeric else "left", overflow="fold")
    for item in items:
        table.add_row(*(cell(value_of(item)) for _, value_of in columns))
    if not table.row_count:
        say(empty)
        return
    stdout().print(table)


def show_item(item: Any, fields: Mapping[str, Any], output: Output) -> None:
    """One thing: a line for each of its fields."""
    if output is Output.JSON:
        show_json(item)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in fields.items():
        if value is not None and value != "":
            grid.add_row(name, cell(value))
    stdout().print(grid)


def cell(value: Any) -> RenderableType:
    """A value as a person reads it."""
    match value:
        case Text() | Table():
            return value
        case None:
            return Text("-", style="dim")
        case bool():
            return Text("yes" if value else "no")
        case int():
            return Text(f"{value:,}")
        case float():
            return Text(f"{value:.4f}")
        case datetime():
            return Text(f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z")
        case str():
            return Text(value)
        case _:
            return Text(json.dumps(_plain(value), ensure_ascii=False))


def state(phase: str) -> Text:
    """A phase with its sign and colour; both are there, since neither is for everybody."""
    sign, style = STYLES.get(phase, ("?", ""))
    return Text(f"{sign} {phase}", style=style)


def short(digest: str | None) -> str | None:
    """Enough of a digest to tell it from others."""
    return digest[:19] if digest else None


def number(value: float | None) -> Text | None:
    """A version or a count without thousands marks: it is a name here."""
    return None if value is None else Text(str(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Result):
        return value.raw
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
