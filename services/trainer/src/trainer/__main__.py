"""python -m trainer api | reconcile | all | migrate | runner | kubernetes"""

import sys

from kit.main import run
from trainer.actions import SERVICE
from trainer.app import create_app, loops, run_kubernetes, run_runner
from trainer.settings import Settings

COMMANDS = {"runner": run_runner, "kubernetes": run_kubernetes}


def main() -> int:
    return run(SERVICE, settings=Settings, create_app=create_app, loops=loops, commands=COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
