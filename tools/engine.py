"""A Docker engine where none is at hand.

python tools/engine.py up                    one that answers, else our own in its own network
python tools/engine.py up --place build      our own in the network of the host: for builds
python tools/engine.py exec -- docker ps     a command that reaches it, and its published ports
python tools/engine.py status
python tools/engine.py down [--wipe]         end our own; --wipe: with all that it has on disk
"""

import argparse
import os
import sys
from collections.abc import Sequence

from containers.engine import Engine, Own, Place, find
from containers.shell import Cannot, say, succeeds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up").add_argument("--place", choices=list(Place), type=Place, default=Place.RUN)
    verbs.add_parser("exec").add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("status")
    verbs.add_parser("down").add_argument("--wipe", action="store_true")
    asked = parser.parse_args(arguments)
    try:
        return act(asked)
    except Cannot as exc:
        say(f"✘ {exc}")
        return 1


def act(asked: argparse.Namespace) -> int:
    match asked.verb:
        case "up":
            tell(find(asked.place))
        case "status":
            return status()
        case "down" if asked.wipe:
            Own().wipe()
        case "down":
            Own().down()
        case "exec":
            engine = find(Own().place or Place.RUN)
            words = engine.inside(asked.command[1:] if asked.command[:1] == ["--"] else asked.command)
            os.execvpe(words[0], words, engine.environment)  # noqa: S606  # the command is the caller's own
    return 0


def tell(engine: Engine) -> None:
    if not engine.own:
        say("engine: the one of this machine")
        return
    for name in ("DOCKER_HOST", "DOCKER_CONFIG"):
        sys.stdout.write(f"export {name}={engine.environment[name]}\n")


def status() -> int:
    own = Own()
    if own.pid is not None:
        say(f"our own engine runs for {own.place}: process {own.pid}, {own.socket}")
        return 0
    there = succeeds(["docker", "version"])
    say("the engine of this machine answers" if there else "no engine answers, and ours does not run")
    return 0 if there else 1


if __name__ == "__main__":
    sys.exit(main())
