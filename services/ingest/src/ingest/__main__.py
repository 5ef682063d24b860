"""python -m ingest api | reconcile | all | migrate"""

import sys

from ingest.actions import SERVICE
from ingest.app import create_app, loops
from ingest.settings import Settings
from kit.main import run


def main() -> int:
    return run(SERVICE, settings=Settings, create_app=create_app, loops=loops)


if __name__ == "__main__":
    sys.exit(main())
