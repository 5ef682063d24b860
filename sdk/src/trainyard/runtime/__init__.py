"""For programs that train: data, metrics, checkpoints and models, on the platform and outside of it.

    from trainyard import runtime

    run = runtime.current(parameters={"lr": 0.01})
    rows = run.dataset("train").torch(target="digit")
    …
    run.log({"loss": loss}, step=batch.step)
    run.save_model(model, example=rows.features[:2])

Outside of the platform the same program is plain Python: it reads the dataset that it names (or the folder in
TRAINYARD_DATASET), and writes into ./trainyard-run. Nothing heavy is imported before it is asked for.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.runtime.runs import Run, begun, facts_of

if TYPE_CHECKING:
    from trainyard.runtime.orders import Batch, Order

__all__ = ("Batch", "Order", "Run", "current")

_RUNS: list[Run] = []


def current(*, parameters: Mapping[str, Any] | None = None, dataset: Path | str | None = None) -> Run:
    """The run that this process is part of; the first call begins it.

    `parameters` are the program's defaults: what the job says counts more (elsewhere: TRAINYARD_PARAMETERS, as JSON).
    `dataset` is a folder with `train.parquet`, `test.csv` and so on, for when the platform gives none.
    """
    if not _RUNS:
        _RUNS.append(begun(facts_of(os.environ, Path.cwd(), parameters or {}, dataset), os.environ))
    return _RUNS[0]
