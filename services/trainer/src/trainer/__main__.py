"""python -m trainer api | reconcile | all | migrate | runner"""

import sys

from kit.main import run
from trainer.actions import SERVICE
from trainer.app import create_app, loops, run_runner
from trainer.settings import Settings


def main() -> int:
    return run(SERVICE, settings=Settings, create_app=create_app, loops=loops, commands={"runner": run_runner})


if __name__ == "__main__":
    sys.exit(main())
