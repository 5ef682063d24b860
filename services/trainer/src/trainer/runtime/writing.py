"""The word of how an attempt ended, as it comes to the disk."""

import json
import os
from pathlib import Path

from trainer.domain.attempts import RESULT_FILE, AttemptResult


def write_result(folder: Path, result: AttemptResult) -> None:
    """By renaming a file that is on the disk: a reader sees all of it or none."""
    staged = folder / f"{RESULT_FILE}.part"
    with staged.open("w") as file:
        json.dump(result.to_json(), file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(folder / RESULT_FILE)
