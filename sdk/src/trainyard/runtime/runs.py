"""A run: what a program that trains can know and say. The same inside a job of the platform and outside of it."""

import atexit
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from trainyard.runtime import datasets, groups
from trainyard.runtime.checkpoints import Saved, Shelf
from trainyard.runtime.mistakes import NotFinite
from trainyard.runtime.orders import Order
from trainyard.runtime.reports import Reports
from trainyard.runtime.saving import Checkpoints

RUN_FILE = "TRAINYARD_RUN_FILE"
PARAMETERS = "TRAINYARD_PARAMETERS"
DATASET = "TRAINYARD_DATASET"
HOME = "trainyard-run"
METRICS = "metrics.jsonl"
PROGRESS = 0.5  # seconds


@dataclass(frozen=True)
class Facts:
    """What the platform says, or what stands for it elsewhere."""

    parameters: Mapping[str, Any]
    seed: int
    checkpoints: Path
    outputs: Path
    splits: Mapping[str, Sequence[Path]]
    job: str | None = None
    attempt: int = 1
    dataset: Mapping[str, Any] | None = None
    socket: Path | None = None


@dataclass
class Run:
    """Of this process."""

    facts: Facts
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _progress_told: float = field(default=-math.inf, init=False)

    @property
    def on_platform(self) -> bool:
        """Whether this is a job of the platform."""
        return self.facts.job is not None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Those of the program's own defaults that nobody changed, and those that the job says."""
        return self.facts.parameters

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.facts.seed

    @property
    def rank(self) -> int:
        """Which of the processes this is."""
        return self.group.rank

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return self.group.world_size

    @cached_property
    def group(self) -> groups.Group:
        """The processes that train together."""
        return groups.group_of(self.environment)

    @cached_property
    def torch(self) -> Any:
        """What is there for programs that use torch: see `trainyard.runtime.tensors`."""
        return import_module("trainyard.runtime.tensors").Torch(self)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the dataset's splits; none where there is no dataset."""
        return tuple(sorted(self.facts.splits))

    def dataset(self, split: str = "train") -> datasets.Split:
        """The rows of a split."""
        return datasets.split_of(self.facts.splits, split)

    def order(self, rows: int, *, batch: int, epochs: int = 1, shuffle: bool = True) -> Order:
        """In which order to go through that many rows; `batch` is that of all processes together."""
        return Order(
            rows,
            batch=batch,
            epochs=epochs,
            seed=self.seed,
            shuffle=shuffle,
            rank=self.rank,
            world_size=self.world_size,
        )

    @cached_property
    def checkpoint(self) -> Checkpoints:
        """The checkpoints of this job, whichever of its attempts made them."""
        return Checkpoints(Shelf(self.facts.checkpoints), lambda: self.group, self._tell_saved)

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Metrics of a step; of several processes, those of rank 0.

        Raises:
            NotFinite: one is NaN or infinite. It is told to the platform first.
        """
        values = {str(name): float(value) for name, value in metrics.items()}
        if self.rank == 0:
            self._reports.tell("metrics", {"step": int(step), "values": values})
        if astray := [name for name, value in values.items() if not math.isfinite(value)]:
            raise NotFinite(f"{', '.join(astray)} is not a finite number at step {step}: {values[astray[0]]}.")

    def progress(self, done: int, total: int) -> None:
        """How far the work is. Told twice a second at most, and at the end: say it as often as you like."""
        now = time.monotonic()
        if self.rank == 0 and (done >= total or now >= self._progress_told + PROGRESS):
            self._progress_told = now
            self._reports.tell("progress", {"done": int(done), "total": int(total)})

    def save_model(self, model: Any, **known: Any) -> Path:
        """Hand the model over. See `trainyard.runtime.models.save`."""
        saved: Path = import_module("trainyard.runtime.models").save(self, model, **known)
        return saved

    def close(self) -> None:
        """Give what is left to be told some seconds. The end of the program does it."""
        if "_reports" in vars(self):
            self._reports.close()

    @cached_property
    def _reports(self) -> Reports:
        self.facts.outputs.mkdir(parents=True, exist_ok=True)
        trail = None if self.on_platform else self.facts.outputs / METRICS
        return Reports(self.facts.socket, trail)

    def _tell_saved(self, saved: Saved) -> None:
        self._reports.tell("checkpoint", {"step": saved.moment.step, "path": saved.folder.name})


def facts_of(
    environment: Mapping[str, str], folder: Path, parameters: Mapping[str, Any], dataset: Path | str | None
) -> Facts:
    """What the platform says in its file; where there is none, a folder beside the program."""
    if path := environment.get(RUN_FILE):
        return _on_platform(json.loads(Path(path).read_text()), parameters)
    said = json.loads(environment.get(PARAMETERS, "{}"))
    home = folder / HOME
    source = environment.get(DATASET) or dataset
    splits = datasets.splits_in(Path(source)) if source else {}
    return Facts({**parameters, **said}, int(said.get("seed", 0)), home / "checkpoints", home / "outputs", splits)


def _on_platform(document: Mapping[str, Any], parameters: Mapping[str, Any]) -> Facts:
    dataset = document.get("dataset")
    splits = (dataset or {}).get("splits", {})
    return Facts(
        parameters={**parameters, **document.get("parameters", {})},
        seed=int(document.get("seed", 0)),
        checkpoints=Path(document["checkpoints"]),
        outputs=Path(document["outputs"]),
        splits={name: [Path(file) for file in files] for name, files in splits.items()},
        job=document["job"],
        attempt=int(document.get("attempt", 1)),
        dataset=dataset,
        socket=Path(document["socket"]) if document.get("socket") else None,
    )


def begun(facts: Facts, environment: Mapping[str, str]) -> Run:
    """A run that tells the rest at the end of the program."""
    run = Run(facts, environment)
    atexit.register(run.close)
    return run
