"""What the tests of the tools share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tools are programs, not a package
sys.path.insert(1, str(Path(__file__).parents[2]))  # where `benchmarks` is
