"""The main job on one command: real flights in, predictions through the gateway out. `make demo` runs this.

It prepares the data, starts the suite on this machine, runs `pipeline.yaml` and asks the deployed model 100 times.
All of it can be run again: what did not change is not made again.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import prepare
from rich.box import ROUNDED
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from trainyard import Client, TrainyardError, WaitExpired
from trainyard.cli import local
from trainyard.cli.watching import failure_of, watch_run
from trainyard.results import DatasetVersion, ModelVersion, Run

HERE = Path(__file__).parent
NAME = "flight-delays"
PREDICTIONS = 100
SWITCH = timedelta(seconds=60)  # a deployment follows a moved alias in seconds
BETWEEN_LOOKS = 0.2
METRICS = ("roc_auc", "average_precision", "baseline_roc_auc", "baseline_average_precision")
SIDES = {"train": "to train on", "held_out": "held out"}
MAKING = {"ingest", "train"}  # the steps that make something; the others point at it
WIDE = 97  # columns of a terminal that has room for a whole digest


@dataclass(frozen=True)
class Asked:
    """What the deployment answered to single rows that the model never saw."""

    milliseconds: Sequence[float]
    examples: Sequence[tuple[dict[str, Any], dict[str, Any]]]
    """Rows, each with its prediction."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run the flight-delays example from the raw file to predictions.")
    parser.add_argument("--data", default="2013", help="2013, 2013-h1, 2013-q3, 2013-07 (default: %(default)s)")
    parser.add_argument("--output", choices=("table", "json"), default="table", help="default: %(default)s")
    parser.add_argument("--file", type=Path, help="a CSV that prepare.py made, instead of --data")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    progress = Console(stderr=True, highlight=False)
    try:
        facts, asked = demonstrate(options.file or prepared(options.data, progress), progress)
    except (prepare.CannotPrepare, TrainyardError) as error:
        progress.print(Text(f"✘ {error}", style="red"), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    facts["seconds"] = round(time.monotonic() - started, 1)
    if options.output == "json":
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        show(facts, asked, Console(highlight=False))
    return 0


def demonstrate(file: Path, progress: Console) -> tuple[dict[str, Any], Asked]:
    """Each part in its turn; answers what came of it."""
    if not os.environ.get("TRAINYARD_URL"):
        local.up()
    with Client() as client:
        upload = uploaded(client, file, progress)
        client.pipelines.put(NAME, (HERE / "pipeline.yaml").read_text())
        run = watch_run(client, client.pipelines.run(NAME, {"upload": upload}).id, console=progress)
        if run.phase != "succeeded":
            raise TrainyardError(failure_of(run))
        version = client.datasets.version("flights", run.outputs_of("ingest")["version"])
        model = client.models.version(NAME, run.outputs_of("train")["version"])
        with progress.status(f"Asking {NAME} for {PREDICTIONS} predictions …"):
            revision = await_model(client, model)
            asked = ask(client, version, model)
        facts = facts_of(run, version, model, asked) | {
            "deployment": NAME,
            "revision": revision,
            "api": f"{client.url}/v1",
            "swagger_ui": f"{client.url}/docs",
        }
    return facts, asked


def prepared(period: str, progress: Console) -> Path:
    """The CSV of the period."""
    file = prepare.CACHE / f"flights-{period}.csv.gz"
    with progress.status(f"Preparing the flights of {period} …") as status:
        rows = prepare.prepare(period, file, say=lambda message: status.update(f"{message} …"))
    done(
        progress,
        f"{rows:,} flights of {period} with the weather of the hour before, {file.stat().st_size / 1e6:.1f} MB",
    )
    return file


def uploaded(client: Client, file: Path, progress: Console) -> str:
    """The digest under which the suite keeps the file."""
    columns = (SpinnerColumn(), TextColumn("Uploading"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=progress, transient=True) as bar:
        task = bar.add_task("", total=file.stat().st_size)
        upload = client.uploads.create(file, sent=lambda size: bar.advance(task, size)).upload
    done(progress, f"uploaded as {upload[:19]}…")
    return upload


def await_model(client: Client, model: ModelVersion) -> str:
    """The revision in which the deployment answers with this model version: it follows the alias by itself."""
    end = time.monotonic() + SWITCH.total_seconds()
    while time.monotonic() < end:
        found = client.deployments.get(NAME)
        if found.phase == "ready" and found.revision and found.serves == (model.reference,):
            return str(found.revision.id)
        time.sleep(BETWEEN_LOOKS)
    raise WaitExpired(f"{NAME} does not serve {model.reference} after {SWITCH}.")


def ask(client: Client, version: DatasetVersion, model: ModelVersion) -> Asked:
    """One row at a time, of days that the model never saw, as callers of a service would."""
    features = [column["name"] for column in model.signature["inputs"]]
    rows = list(itertools.islice(client.datasets.rows("flights", version.version, split="held_out"), PREDICTIONS))
    milliseconds: list[float] = []
    examples = []
    for row in rows:
        started = time.perf_counter()
        answer = client.predict(NAME, [{name: row[name] for name in features}])
        milliseconds.append(1000 * (time.perf_counter() - started))
        if answer.version != model.version:
            raise TrainyardError(f"Version {answer.version} answered, not {model.version}: somebody else promoted one.")
        examples.append((row, dict(answer.predictions[0])))
    return Asked(milliseconds, examples)


def facts_of(run: Run, version: DatasetVersion, model: ModelVersion, asked: Asked) -> dict[str, Any]:
    """What the table shows, for programs."""
    cuts = statistics.quantiles(asked.milliseconds, n=100, method="inclusive")
    metrics = model.metrics or {}
    return {
        "run": run.id,
        "reused": [step.name for step in run.steps if step.phase == "reused"],
        "dataset": version.reference,
        "dataset_digest": version.digest,
        "rows_in": version.rows_in or (version.rows or 0) + (version.rejected or 0),
        "rows": version.rows,
        "rejected": version.rejected,
        "splits": version.splits,
        "model": model.reference,
        "model_digest": model.digest,
        "formats": [str(part["format"]) for part in model.formats],
        "metrics": {name: metrics.get(name) for name in METRICS},
        "predictions": len(asked.milliseconds),
        "latency_ms": {"p50": round(cuts[49], 2), "p95": round(cuts[94], 2)},
    }


def show(facts: dict[str, Any], asked: Asked, console: Console) -> None:
    """The table, some predictions, the URLs, and how to stop."""
    table = Table(
        box=ROUNDED, border_style="dim", show_header=False, title="Trainyard: flight delays", title_style="bold"
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    splits = ", ".join(f"{rows:,} {SIDES.get(name, name)}" for name, rows in (facts["splits"] or {}).items())
    metrics, latency = facts["metrics"], facts["latency_ms"]
    for name, value in {
        "dataset": f"{facts['dataset']}\n{shortened(facts['dataset_digest'], console.width)}",
        "rows": f"{facts['rows_in']:,} in, {facts['rejected']:,} rejected\n{splits}".rstrip(),
        "model": f"{facts['model']} ({', '.join(facts['formats'])})\n{shortened(facts['model_digest'], console.width)}",
        "ROC AUC": beside(metrics["roc_auc"], metrics["baseline_roc_auc"]),
        "average precision": beside(metrics["average_precision"], metrics["baseline_average_precision"]),
        "deployment": f"{facts['deployment']}, revision {facts['revision']}",
        "latency": f"p50 {latency['p50']:.1f} ms, p95 {latency['p95']:.1f} ms ({facts['predictions']} predictions)",
        "new in this run": "nothing: the dataset and the model are reused" if set(facts["reused"]) >= MAKING else "",
        "took": f"{facts['seconds']:.0f} s",
    }.items():
        if value:
            table.add_row(name, value)
    console.print()
    console.print(table)
    console.print()
    console.print(examples_of(asked))
    console.print()
    for name, value in {
        "API": facts["api"],
        "Swagger UI": facts["swagger_ui"],
        "by hand": "trainyard --help",
        "stop": "make down (all data stays)",
    }.items():
        console.print(Text.assemble((f"{name:<12}", "bold"), value), soft_wrap=True)


def examples_of(asked: Asked) -> Table:
    """A few flights of days that the model never saw: the most and the least likely to be late."""
    table = Table(box=None, header_style="bold dim", pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("flight", "from", "to", "scheduled (UTC)", "P(late)", "was late"):
        table.add_column(title, justify="right" if title == "P(late)" else "left")
    ranked = sorted(asked.examples, key=lambda example: float(example[1]["score"]))
    for row, prediction in [*ranked[-2:][::-1], *ranked[:2]]:
        flight = f"{row['carrier']} {row['flight']}"
        score = f"{prediction['score']:.3f}"
        table.add_row(
            flight, row["origin"], row["dest"], str(row["scheduled_at"])[:16], score, "yes" if row["late"] else "no"
        )
    return table


def beside(model: float | None, baseline: float | None) -> str:
    """The model's number and that of the carrier by hour rate, on the held-out days."""
    return "" if model is None else f"{model:.3f} on held-out days (carrier by hour rate: {baseline or 0:.3f})"


def shortened(digest: str, width: int) -> str:
    """A digest that fits into a line of the table."""
    return digest if width >= WIDE else f"{digest[:39]}…"


def done(console: Console, message: str) -> None:
    """A part that is over."""
    console.print(Text.assemble(("✔ ", "green"), message), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
