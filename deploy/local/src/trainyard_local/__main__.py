"""python -m trainyard_local up | down | status | backup DIR | restore DIR, without the whole SDK."""

import argparse
import sys
from collections.abc import Sequence

from trainyard.errors import TrainyardError
from trainyard_local import cli


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainyard_local", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "status", "backup", "restore"])
    parser.add_argument("folder", nargs="?", help="of the backup")
    parser.add_argument("--home", help="default: $TRAINYARD_HOME, or ~/.trainyard")
    parser.add_argument("--port", type=int, help="default: $TRAINYARD_PORT, or 8080")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    given = parser.parse_args(arguments)
    if (given.verb in ("backup", "restore")) != bool(given.folder):
        parser.error("backup and restore name a folder, the others none")
    try:
        if given.verb == "up":
            cli.up(given.home, given.port, given.output)
        elif given.verb == "down":
            cli.down(given.home, given.output)
        elif given.verb == "backup":
            cli.backup(given.folder, given.home, given.output)
        elif given.verb == "restore":
            cli.restore(given.folder, given.home, given.output)
        else:
            return 0 if cli.status(given.home, given.output)["phase"] == "up" else 1
    except TrainyardError as exc:
        sys.stderr.write(f"Error: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
