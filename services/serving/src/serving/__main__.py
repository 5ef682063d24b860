"""`python -m serving api | reconcile | all | migrate`."""

import sys

from kit.main import run
from serving.app import create_app, loops
from serving.settings import Settings

if __name__ == "__main__":
    sys.exit(run("serving", settings=Settings, create_app=create_app, loops=loops))
