"""Small data in which something can be learnt, and a pipeline from it to predictions."""

import contextlib
import csv
import io
import random
from collections.abc import Callable
from typing import Any, TypeVar

from trainyard import Client
from trainyard.errors import Unavailable, Unreachable
from trainyard.results import Run

T = TypeVar("T")
ROWS = 2000
PATIENCE = 5
BAD = 20


def patiently(ask: Callable[[], T]) -> T:
    """Ask once more when a client of little patience has given up: a service that is killed at five places in a row
    is away for longer than that.
    """
    for _ in range(PATIENCE):
        with contextlib.suppress(Unavailable, Unreachable):
            return ask()
    return ask()


class World:
    """Names and data of one test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dataset = f"{name}-rows"

    def pipeline(self) -> dict[str, Any]:
        """ingest → train → gate → promote → deploy."""
        train = {
            "dataset": "${{ steps.ingest.outputs.reference }}",
            "task": "classification",
            "target": "late",
            "features": ["day", "hour", "carrier", "wind"],
            "estimator": {
                "class": "sklearn.ensemble.HistGradientBoostingClassifier",
                "parameters": {"max_iter": 20},
            },
            "baseline": ["carrier", "hour"],
            "seed": 0,
            "register": {"model": self.name},
        }
        settings = {
            "nulls": ["NA"],
            "key": ["id"],
            "split": {"by": ["day"], "held_out": 0.25, "seed": 0},
            "checks": [{"column": "late", "check": "not_null"}],
        }
        ingest = {
            "dataset": self.dataset,
            "upload": "${{ parameters.upload }}",
            "format": "csv",
            "compression": None,
            "settings": settings,
        }
        promote = {"model": self.name, "version": "${{ steps.train.outputs.version }}", "alias": "champion"}
        deploy = {"deployment": self.name, "model": f"{self.name}@champion"}
        return {
            "parameters": {"upload": ""},
            "steps": {
                "ingest": {"kind": "ingest", "with": ingest},
                "train": {"kind": "train", "needs": ["ingest"], "with": train},
                "gate": {
                    "kind": "gate",
                    "needs": ["train"],
                    "with": {"require": ["steps.train.outputs.metrics.roc_auc > 0.6"]},
                },
                "promote": {"kind": "promote", "needs": ["train", "gate"], "with": promote},
                "deploy": {"kind": "deploy", "needs": ["promote"], "with": deploy},
            },
        }

    def start(self, client: Client, seed: int) -> Run:
        """Upload the data of this seed and run the pipeline on it."""
        upload = patiently(lambda: client.uploads.create(rows_of(seed))).upload
        patiently(lambda: client.pipelines.put(self.name, self.pipeline()))
        return patiently(lambda: client.pipelines.run(self.name, {"upload": upload}))

    def row(self) -> dict[str, Any]:
        """One to predict."""
        return {"day": 3, "hour": 20, "carrier": "B6", "wind": 30.0}

    def made(self, client: Client) -> dict[str, int]:
        """How much of everything there is."""
        return {
            "dataset versions": len(list(client.datasets.versions(self.dataset))),
            "model versions": len(list(client.models.versions(self.name))),
            "runs": len(list(client.runs.list(self.name))),
            "jobs": len([job for job in client.jobs.list() if job.dataset.startswith(f"{self.dataset}@")]),
        }


def rows_of(seed: int) -> bytes:
    """A CSV: late flights are those of late hours and strong winds, mostly. Some have no label."""
    chance = random.Random(seed)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "day", "hour", "carrier", "wind", "late"])
    for number in range(ROWS):
        hour, wind = chance.randrange(5, 24), round(chance.uniform(0, 40), 1)
        carrier = chance.choice(["AA", "B6", "UA", "DL"])
        late = chance.random() < 0.05 + 0.5 * (hour > 17) + 0.3 * (wind > 25)
        label = "NA" if number % (ROWS // BAD) == 0 else str(late).lower()
        row = [f"{seed}-{number}", number % 40, hour, carrier, "NA" if number % 13 == 0 else wind, label]
        writer.writerow(row)
    return out.getvalue().encode()
