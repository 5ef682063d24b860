"""Make a model's ONNX twin and have it judged, in a child process with a deadline.

Conversion of some fitted models takes minutes or never ends (with double inputs skl2onnx looks for the float beside an
infinite threshold for ever), and others need much memory: the parent asks `make`, the child is
`python -m models.twin_child FOLDER PID MEMORY`, and they meet over files in that folder.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from models.signature import Arrays, Signature
from models.verdicts import Verdict

SKOPS, ONNX = "model.skops", "model.onnx"
SIGNATURE, ROWS, VERDICT = "twin.signature.json", "twin.rows.arrow", "twin.verdict.json"
MAX_REASON = 300
MAX_MEMORY = 8 << 30
LEAST_MEMORY = 320 << 20
"""What the child has taken when it begins, and a little more."""
MARGIN = 192 << 20
"""What it has in memory beside its data: the libraries' own pages."""


def make(
    folder: Path,
    signature: Signature,
    arrays: Arrays,
    *,
    deadline: timedelta,
    memory: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Verdict:
    """Convert `model.skops` in the folder to `model.onnx` beside it; the file is there only when it is kept.

    The arrays are rows that the model was not fitted on. The child gets this environment with PYTHONHASHSEED=0,
    since the order of a set would otherwise show in the bytes. With `memory` it holds no more than so many bytes: a
    conversion that needs more costs the twin, and not the job that asked for it.
    """
    limit = MAX_MEMORY if memory is None else min(MAX_MEMORY, memory - MARGIN)
    if limit < LEAST_MEMORY:
        return Verdict(kept=False, reason="There is too little memory left for the conversion.")
    (folder / SIGNATURE).write_text(json.dumps(signature.to_json()))
    write_rows(folder / ROWS, arrays)
    (folder / VERDICT).unlink(missing_ok=True)
    (folder / ONNX).unlink(missing_ok=True)
    verdict = _judged_by_child(folder, deadline, limit, os.environ if environment is None else environment)
    if not verdict.kept:
        (folder / ONNX).unlink(missing_ok=True)
    for name in (SIGNATURE, ROWS, VERDICT):
        (folder / name).unlink(missing_ok=True)
    return verdict


def _judged_by_child(folder: Path, deadline: timedelta, limit: int, environment: Mapping[str, str]) -> Verdict:
    command = [sys.executable, "-m", "models.twin_child", str(folder), str(os.getpid()), str(limit)]
    try:
        # Also when this process is told to stop, `run` ends the child before it lets go.
        child = subprocess.run(  # noqa: S603  # our own interpreter and module
            command,
            env={**environment, "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=deadline.total_seconds(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Verdict(kept=False, reason=f"The conversion did not end within {deadline.total_seconds():g} s.")
    try:
        return Verdict.from_json(json.loads((folder / VERDICT).read_text()))
    except (OSError, ValueError):
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return Verdict(kept=False, reason=f"The conversion broke off: {last or child.returncode}"[:MAX_REASON])


def write_rows(path: Path, arrays: Arrays) -> None:
    """Rows for the child."""
    # Arrow, since NumPy's own files hold strings only by pickle or without their NULs.
    table = pa.table([array[:, 0] for array in arrays.values()], names=list(arrays))
    with pa.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_rows(path: Path) -> Arrays:
    """Rows from the parent."""
    with pa.memory_map(str(path)) as source:
        table = pyarrow.ipc.open_file(source).read_all()
        columns = zip(table.column_names, table.columns, strict=True)
        return {name: np.array(column.to_numpy()).reshape(-1, 1) for name, column in columns}
