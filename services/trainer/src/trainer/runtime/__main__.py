"""python -m trainer.runtime FOLDER [RUNNER_LOCK]

A keeper (see there), and under it the program, begun anew in the environment that a job has: nothing of the host's, and
one thread. NumPy and OpenMP read their settings when they are loaded, so the environment must stand before that.
"""

import sys
from pathlib import Path

from trainer.runtime.keeper import end_as, keep

if __name__ == "__main__":
    end_as(keep(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
