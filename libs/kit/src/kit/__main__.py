"""python -m kit keys init | add | retire --dir D NAME…
python -m kit keys cluster --public CONFIGMAP [--secret SECRET:KEY=VALUE]… NAME=SECRET…
python -m kit database prepare NAME…

keys init          make keys for the services that have none; repeating it changes nothing
keys add           give a service a second key (rotation, first step)
keys retire        forget the older one (rotation, last step)
keys cluster       the same as `init` in the namespace of this pod; of --secret, {random} is replaced (kit.cluster_keys)
database prepare   make the services' database, roles and schemas, as an administrator of the server (kit.databases)
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2
import psycopg

from kit import cluster, cluster_keys, databases, keys

EXPECTED = (ValueError, FileNotFoundError, databases.Refused, cluster.Refused, httpx2.TransportError, psycopg.Error)


def main(arguments: Sequence[str], mount: Path = cluster.MOUNT) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m kit", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    nouns = parser.add_subparsers(dest="noun", required=True)
    _keys_arguments(nouns.add_parser("keys"))
    _database_arguments(nouns.add_parser("database"))
    given = parser.parse_args(arguments, argparse.Namespace(mount=mount))
    act: Callable[[argparse.Namespace], None] = given.act
    try:
        act(given)
    except (
        ValueError,
        FileNotFoundError,
        databases.Refused,
        cluster.Refused,
        httpx2.TransportError,
        psycopg.Error,
    ) as exc:
        sys.stderr.write(f"{str(exc).strip()}\n")
        return 1
    return 0


def _keys_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("init", "add", "retire"):
        on_files = verbs.add_parser(verb)
        on_files.add_argument("--dir", type=Path, required=True, dest="folder")
        on_files.add_argument("names", nargs="+")
        on_files.set_defaults(act=_keys)
    in_cluster = verbs.add_parser("cluster")
    in_cluster.add_argument("--public", required=True, help="the ConfigMap of all public keys")
    in_cluster.add_argument("--secret", action="append", default=[], dest="secrets", help="SECRET:KEY=VALUE")
    in_cluster.add_argument("named", nargs="+", type=_pair, metavar="NAME=SECRET")
    in_cluster.set_defaults(act=_cluster)


def _pair(text: str) -> tuple[str, str]:
    name, equals, secret = text.partition("=")
    if not (name and equals and secret):
        raise argparse.ArgumentTypeError(f"{text} is not NAME=SECRET")
    return name, secret


def _cluster(given: argparse.Namespace) -> None:
    wanted = cluster_keys.wanted_secrets(given.secrets)
    here = cluster.in_cluster(os.environ, given.mount)
    made = cluster_keys.make_random(here, wanted) + cluster_keys.make(here, dict(given.named), given.public)
    sys.stdout.write(f"made {', '.join(made)}\n" if made else "all is there\n")


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
