"""What the tests of the example share: its scripts are no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # for `prepare`
sys.path.insert(0, str(Path(__file__).parents[3] / "sdk" / "tests"))  # for `torch_here`
