"""A job, live: its log, and below it how far it is and how its metrics go."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from trainyard.cli.output import say, state, stderr
from trainyard.cli.watching import detachable
from trainyard.client import Client
from trainyard.errors import TrainyardError
from trainyard.resources.jobs import FINAL
from trainyard.results import Job, MetricPoint

BARS = "▁▂▃▄▅▆▇█"
WIDTH, SHOWN = 40, 6
KEPT = 10_000
"""Points of a metric that its line is drawn from."""
BETWEEN_LOOKS = 1.0


def watch_job(
    client: Client, job: Job, *, console: Console | None = None, pause: Callable[[float], None] = time.sleep
) -> Job:
    """Show what a job prints, and on a terminal how its metrics go, until it is over. Answers it as it ended."""
    out = console or stderr()
    with detachable(f"trainyard job logs --follow {job.id}", f"trainyard job cancel {job.id}"):
        if not out.is_terminal:
            for line in client.jobs.logs(job.id, follow=True):
                say(line.message)
            return client.jobs.wait(job.id)
        return _live(client, job, out, pause)


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """How values went, as a line of bars; of more values than there is room for, the mean of those that share a bar."""
    if not values:
        return ""
    bins = min(width, len(values))
    edges = [len(values) * at // bins for at in range(bins + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    least, most = min(means), max(means)
    span = (most - least) or 1.0
    return "".join(BARS[min(len(BARS) - 1, int((mean - least) / span * len(BARS)))] for mean in means)


def time_left(fraction: float | None, seconds: float) -> str:
    """How long it goes on, if it goes on as it did."""
    if fraction is None or fraction <= 0 or seconds <= 0:
        return ""
    left = round(seconds * (1 - fraction) / fraction)
    hours, rest = divmod(left, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"


class Seen:
    """What is known of a job by now: written by those who listen, read by who draws."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._values: dict[str, deque[float]] = {}
        self._began: tuple[float, float] | None = None
        self._lock = threading.Lock()

    def add(self, point: MetricPoint) -> None:
        """A value of a metric."""
        with self._lock:
            self._values.setdefault(point.name, deque(maxlen=KEPT)).append(point.value)

    def draw(self, now: float) -> RenderableType:
        """The lines below the log."""
        progress = self.job.progress or {}
        fraction = progress.get("fraction")
        if isinstance(fraction, (int, float)) and self._began is None:
            self._began = (now, fraction)
        said = self.job.status.message or str(progress.get("stage") or "")
        line = Text.assemble("job ", (self.job.id, "dim"), " ", state(self.job.phase), "  ", said)
        rows: list[RenderableType] = [line]
        if isinstance(fraction, (int, float)) and self._began is not None:
            since, first = self._began
            done = round(fraction * WIDTH)
            gone = (fraction - first) / (1 - first) if first < 1 else None
            left = time_left(gone, now - since)
            rows.append(Text(f"{'━' * done}{'╌' * (WIDTH - done)} {fraction:4.0%}  {left}", style="cyan"))
        with self._lock:
            rows += [_row_of(name, list(values)) for name, values in list(self._values.items())[:SHOWN]]
        return Group(*rows)


def _row_of(name: str, values: list[float]) -> Text:
    return Text.assemble((f"{name[:20]:<20} ", "bold"), (sparkline(values), "green"), f" {values[-1]:.4g}")


def _live(client: Client, job: Job, console: Console, pause: Callable[[float], None]) -> Job:
    seen = Seen(job)

    def print_lines() -> None:
        for line in client.jobs.logs(job.id, follow=True):
            console.print(line.message, markup=False, soft_wrap=True)

    def take_points() -> None:
        for point in client.jobs.metrics(job.id, follow=True):
            seen.add(point)

    listeners = [threading.Thread(target=_quietly, args=(each,), daemon=True) for each in (print_lines, take_points)]
    with Live(console=console, refresh_per_second=4, get_renderable=lambda: seen.draw(_now())) as live:
        for listener in listeners:
            listener.start()
        while seen.job.phase not in FINAL:
            pause(BETWEEN_LOOKS)
            seen.job = client.jobs.get(job.id)
        for listener in listeners:
            listener.join(10)
        live.refresh()
    return seen.job


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _quietly(act: Callable[[], None]) -> None:
    try:
        act()
    except TrainyardError as exc:
        say(f"Not followed any more: {exc}")
