"""What the tests of the example share: its script is no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # for `make_model`
