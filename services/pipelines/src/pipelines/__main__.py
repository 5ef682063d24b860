"""python -m pipelines api | reconcile | all | migrate"""

import sys
from collections.abc import Sequence

from kit.main import run
from pipelines.actions import SERVICE
from pipelines.app import create_app, loops
from pipelines.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return run(SERVICE, settings=Settings, create_app=create_app, loops=loops, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
