"""python -m kit keys init | add | retire --dir D NAME…
python -m kit database prepare NAME…

keys init          make keys for the services that have none; repeating it changes nothing
keys add           give a service a second key (rotation, first step)
keys retire        forget the older one (rotation, last step)
database prepare   make the services' database, roles and schemas, as an administrator of the server (kit.databases)
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg

from kit import databases, keys


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m kit", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    nouns = parser.add_subparsers(dest="noun", required=True)
    _keys_arguments(nouns.add_parser("keys"))
    _database_arguments(nouns.add_parser("database"))
    given = parser.parse_args(arguments)
    act: Callable[[argparse.Namespace], None] = given.act
    try:
        act(given)
    except (ValueError, FileNotFoundError, databases.Refused, psycopg.Error) as exc:
        sys.stderr.write(f"{str(exc).strip()}\n")
        return 1
    return 0


def _keys_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", choices=["init", "add", "retire"])
    parser.add_argument("--dir", type=Path, required=True, dest="folder")
    parser.add_argument("names", nargs="+")
    parser.set_defaults(act=_keys)


def _keys(given: argparse.Namespace) -> None:
    if given.verb == "init":
        keys.init(given.folder, given.names)
        return
    act = keys.add if given.verb == "add" else keys.retire
    for name in given.names:
        act(given.folder, name)


def _database_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", choices=["prepare"])
    parser.add_argument("--wait", type=float, default=60, help="seconds that the server may take to be there")
    parser.add_argument("names", nargs="+")
    parser.set_defaults(act=_prepare)


def _prepare(given: argparse.Namespace) -> None:
    done = databases.prepare_all(os.environ, given.names, within=given.wait)
    sys.stdout.write(f"prepared {', '.join(done)} for {', '.join(given.names)}\n")


if __name__ == "__main__":  # pragma: no cover - a child process reports no coverage
    sys.exit(main(sys.argv[1:]))
