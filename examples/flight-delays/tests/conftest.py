"""What the tests of the example share: its scripts are not a package."""

import sys
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent
sys.path.insert(0, str(EXAMPLE))  # for `prepare` and `demo`
sys.path.insert(0, str(EXAMPLE.parent.parent / "sdk" / "tests"))  # for the client's fake suite
