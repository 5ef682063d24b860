"""What the tests of the example share: its scripts are not a package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # for `prepare` and `demo`
