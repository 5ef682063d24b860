"""A model that Trainyard has no part in: handwritten digits, learnt by scikit-learn, written as ONNX.

    python make_model.py [FOLDER]

It stands for whatever you have: any ONNX file goes the same way. Writes `digits.onnx`, `rows.json` (three digits to ask
about) and `labels.json` (which they are), and prints how often the model is right.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
SHOWN = 3


class Made(NamedTuple):
    """The files, and the share of held-out digits that the model knows."""

    model: Path
    rows: Path
    labels: Path
    accuracy: float


def make(folder: Path) -> Made:
    """Train, convert, write."""
    pixels, digits = load_digits(return_X_y=True)
    train, held_out, known, asked = train_test_split(pixels.astype(np.float32), digits, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(train, known)
    # One row of the batch is 64 numbers. Without zipmap the probabilities are a tensor, and not a list of maps.
    inputs = [("pixels", FloatTensorType([None, 64]))]
    options = {id(model): {"zipmap": False}}
    written = to_onnx(model, initial_types=inputs, options=options, name="digits", target_opset=17)
    folder.mkdir(parents=True, exist_ok=True)
    made = Made(
        folder / "digits.onnx", folder / "rows.json", folder / "labels.json", float(model.score(held_out, asked))
    )
    made.model.write_bytes(written.SerializeToString())
    made.rows.write_text(json.dumps([{"pixels": row} for row in held_out[:SHOWN].tolist()]) + "\n")
    made.labels.write_text(json.dumps(asked[:SHOWN].tolist()) + "\n")
    return made


def main(arguments: list[str]) -> int:
    """As a program."""
    made = make(Path(arguments[0]) if arguments else HERE)
    sys.stdout.write(f"{made.model}: right about {made.accuracy:.1%} of held-out digits\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
