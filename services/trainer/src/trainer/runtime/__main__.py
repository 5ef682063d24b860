"""Begin anew in the environment that a job has: nothing of the host's, and one thread.

The process keeps its id and start time. NumPy and OpenMP read their settings when they are loaded, so the environment
must stand before the program's own imports. SIGTERM is held back until the program can answer it: a mask outlives exec.
"""

import os
import signal
import sys

from trainer.runtime.environments import environment_of

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.execve(  # noqa: S606  # our own interpreter, no shell
        sys.executable,
        [sys.executable, "-m", "trainer.runtime.program", *sys.argv[1:]],
        environment_of(os.environ),
    )
