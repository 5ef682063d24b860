"""What the tests of `trainyard_local` share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `fake_services` and `measuring`
