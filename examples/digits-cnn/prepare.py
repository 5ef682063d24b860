"""scikit-learn's handwritten digits as a file: `python prepare.py` writes digits.csv, a row for each image."""

import csv
import sys
from pathlib import Path

from sklearn.datasets import load_digits

HERE = Path(__file__).parent


def write(path: Path) -> Path:
    """One row an image, its pixels from the top left on."""
    pixels, digits = load_digits(return_X_y=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*(f"pixel_{number:02d}" for number in range(64)), "digit"])
        rows.writerows([*map(int, row), int(digit)] for row, digit in zip(pixels, digits, strict=True))
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / 'digits.csv')}\n")
