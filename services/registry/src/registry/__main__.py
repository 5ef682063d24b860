"""`python -m registry api | reconcile | all | migrate`."""

import sys

from kit.main import run
from registry.app import create_app, loops
from registry.settings import Settings

if __name__ == "__main__":
    sys.exit(run("registry", settings=Settings, create_app=create_app, loops=loops))
