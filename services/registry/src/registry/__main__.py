"""python -m registry api | reconcile | all | migrate"""

import sys

from kit.main import run
from registry.actions import SERVICE
from registry.app import create_app, loops
from registry.settings import Settings


def main() -> int:
    return run(SERVICE, settings=Settings, create_app=create_app, loops=loops)


if __name__ == "__main__":
    sys.exit(main())
