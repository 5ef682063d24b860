"""Where torch is: in this environment, or in the one that `make .cache/torch/stamp` makes, which is looked at last."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = ROOT / ".cache" / "torch"
MISSING = "TORCH IS MISSING: make .cache/torch/stamp"


def look() -> bool:
    """Whether it can be imported from now on, also by programs that are started."""
    if importlib.util.find_spec("torch") is None:
        sys.path.extend(str(folder) for folder in OWN.glob("lib/python3.*/site-packages"))
    return importlib.util.find_spec("torch") is not None


def need() -> None:
    """Leave a module of tests out loudly where it is missing; in CI that is a failure."""
    if look():
        return
    if os.environ.get("CI"):
        pytest.fail(MISSING)
    pytest.skip(MISSING, allow_module_level=True)


def environment() -> dict[str, str]:
    """For programs that use it: one thread, and the packages of this process."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
