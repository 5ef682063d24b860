"""python -m kit keys init | add | retire --dir D NAME…

init     make keys for the services that have none; repeating it changes nothing
add      give a service a second key (rotation, first step)
retire   forget the older one (rotation, last step)
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kit import keys


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m kit", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("noun", choices=["keys"])
    parser.add_argument("verb", choices=["init", "add", "retire"])
    parser.add_argument("--dir", type=Path, required=True, dest="folder")
    parser.add_argument("names", nargs="+")
    given = parser.parse_args(arguments)
    if given.verb == "init":
        keys.init(given.folder, given.names)
        return 0
    act = keys.add if given.verb == "add" else keys.retire
    try:
        for name in given.names:
            act(given.folder, name)
    except (ValueError, FileNotFoundError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":  # pragma: no cover - a child process reports no coverage
    sys.exit(main(sys.argv[1:]))
