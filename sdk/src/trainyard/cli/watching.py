"""A run's progress, live: a table that moves on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import typer
from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from trainyard.cli.output import say, state, stderr
from trainyard.client import Client
from trainyard.errors import Unavailable, Unreachable
from trainyard.resources.deployments import ENDED
from trainyard.resources.pipelines import FINAL
from trainyard.results import Batch, Run, Step

T = TypeVar("T")
BETWEEN_LOOKS = 0.5
PATIENCE = 10  # looks in a row without an answer; each of them is some seconds of tries


@contextmanager
def detachable(attach: str, stop: str) -> Iterator[None]:
    """Ctrl-C leaves what is watched running, and says how to come back to it."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"\nDetached; it goes on.\n  watch it again:  {attach}\n  stop it:         {stop}")
        raise typer.Exit(130) from None


def watch_run(
    client: Client, id: str, *, console: Console | None = None, pause: Callable[[float], None] = time.sleep
) -> Run:
    """Show a run's progress until it is over, and answer it as it ended."""
    out = console or stderr()
    with detachable(f"trainyard run watch {id}", f"trainyard run cancel {id}"):
        looks = _looks(client, id, pause)
        return _live(looks, out) if out.is_terminal else _lines(looks, out)


def watch_batch(
    client: Client, batch: Batch, *, console: Console | None = None, pause: Callable[[float], None] = time.sleep
) -> Batch:
    """Show how far a batch is until it is over, and answer it as it ended."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console or stderr()) as bar:
        task = bar.add_task(batch.phase, total=None)
        for seen in _looked_at(lambda: client.deployments.get_batch(batch.deployment, batch.id), pause):
            rows, done = seen.progress.get("rows") or None, seen.progress.get("rows_done", 0)
            bar.update(task, description=seen.phase, total=rows, completed=done)
            if seen.phase in ENDED:
                return seen
    raise AssertionError("a batch is looked at until it is over")


def table_of(run: Run, now: datetime | None = None) -> RenderableType:
    """The steps of a run: state, time, and what came of each."""
    table = Table(box=ROUNDED, border_style="dim", header_style="bold", title_justify="left", pad_edge=True)
    table.title = Text.assemble((f"{run.pipeline} ", "bold"), (run.id, "dim"))
    for title in ("step", "kind", "state", "time", "result"):
        table.add_column(title, justify="right" if title == "time" else "left", overflow="fold")
    for step in run.steps:
        spins = step.phase == "running" and now is not None
        sign: RenderableType = Spinner("dots", text=Text(step.phase, style="cyan")) if spins else state(step.phase)
        table.add_row(step.name, Text(step.kind, style="dim"), sign, _seconds_of(step, now), result_of(step))
    end = run.finished_at or now
    spent = f"  {(end - run.created_at).total_seconds():.0f} s" if run.created_at and end else ""
    return Group(table, Text.assemble("run ", state(run.phase), (spent, "dim")))


def result_of(step: Step) -> Text:
    """The outputs that a person looks for, or why there are none."""
    if step.phase == "failed":
        return Text(step.status.message or step.status.reason or "", style="red")
    outputs = step.outputs or {}
    parts: list[str] = []
    if "rows" in outputs:
        parts.append(
            f"{outputs.get('reference', '')} · {outputs['rows']:,} rows, {outputs.get('rejected', 0):,} rejected"
        )
    elif "metrics" in outputs:
        auc = (outputs["metrics"] or {}).get("roc_auc")
        parts += [str(outputs.get("reference", "")), *([f"ROC AUC {auc:.3f}"] if auc is not None else [])]
    elif "alias" in outputs:
        parts.append(f"@{outputs['alias']}")
    elif "deployment" in outputs:
        parts.append(str(outputs["deployment"]))
    elif outputs.get("passed"):
        parts.append("passed")
    if (step.attempt or 0) > 1:
        parts.append(f"attempt {step.attempt}")
    if not outputs and step.status.message:
        parts.append(step.status.message)
    return Text(" · ".join(part for part in parts if part))


def failure_of(run: Run) -> str:
    """Which step failed, why, and how to go on."""
    failed = next((step for step in run.steps if step.phase == "failed"), None)
    if failed is None:
        return f"The run {run.phase}. {run.status.message or ''}".strip()
    why = failed.status.message or failed.status.reason or "it does not say why"
    return f"Step {failed.name} failed: {why}\n  go on from there:  trainyard run resume {run.id} --watch"


def _looks(client: Client, id: str, pause: Callable[[float], None]) -> Iterator[Run]:
    """What the run is, again and again. A suite that is away for a while is looked for, since the run goes on."""
    for run in _looked_at(lambda: client.runs.get(id), pause):
        yield run
        if run.phase in FINAL:
            return


def _looked_at(look: Callable[[], T], pause: Callable[[float], None]) -> Iterator[T]:
    away = 0
    while True:
        try:
            found = look()
        except (Unreachable, Unavailable):
            away += 1
            if away == PATIENCE:
                raise
            pause(BETWEEN_LOOKS)
            continue
        away = 0
        yield found
        pause(BETWEEN_LOOKS)


def _live(looks: Iterator[Run], console: Console) -> Run:
    run = next(looks)
    with Live(console=console, refresh_per_second=8, get_renderable=lambda: table_of(run, datetime.now(UTC))) as live:
        for run in looks:  # noqa: B007  # the table is drawn from it
            live.refresh()
    return run


def _lines(looks: Iterator[Run], console: Console) -> Run:
    seen: dict[str, tuple[str, int | None]] = {}
    run: Run | None = None
    for run in looks:
        for step in run.steps:
            now = (step.phase, step.attempt)
            if seen.get(step.name, ("waiting", None)) != now and step.phase != "waiting":
                console.print(Text(" ".join(_line_of(step).split())), soft_wrap=True)
            seen[step.name] = now
    if run is None:  # the first look always comes
        raise AssertionError
    console.print(Text(f"run {run.id} {run.phase}"), soft_wrap=True)
    return run


def _line_of(step: Step) -> str:
    spent = _seconds_of(step, None)
    return f"{step.name} {step.phase} {spent} {result_of(step)}"


def _seconds_of(step: Step, now: datetime | None) -> str:
    end = step.finished_at or (now if step.phase == "running" else None)
    if step.started_at is None or end is None or step.phase == "reused":
        return ""
    return f"{max((end - step.started_at) / timedelta(seconds=1), 0):.1f} s"
