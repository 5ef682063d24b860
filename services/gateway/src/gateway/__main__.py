"""`python -m gateway api | reconcile | all | migrate | bootstrap`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx2

from gateway.actions import SERVICE
from gateway.app import create_app, loops
from gateway.bootstrap import File, Place, Refused, Secret, make_first_key
from gateway.settings import Settings
from kit import cluster
from kit.cluster import in_cluster
from kit.db import make_engine
from kit.main import run


def bootstrap(settings: Settings, arguments: Sequence[str]) -> int:
    """Make the first project, its admin and a key, and write the key down, unless that was done."""
    parser = argparse.ArgumentParser(prog="python -m gateway bootstrap")
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--credentials", type=Path, help="the file to write")
    to.add_argument("--secret", help="the Kubernetes Secret to write, in the namespace of this pod")
    parser.add_argument("--url", required=True, help="where the gateway answers")
    asked = parser.parse_args(arguments)
    try:
        place = File(asked.credentials) if asked.secret is None else Secret(in_cluster(), asked.secret)
        said = asyncio.run(_bootstrap(settings, place, asked.url))
    except (Refused, cluster.Refused, httpx2.TransportError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0


async def _bootstrap(settings: Settings, place: Place, url: str) -> str:
    engine = make_engine(settings.url)
    try:
        return await make_first_key(engine, place, url)
    finally:
        await engine.dispose()


def main(argv: Sequence[str] | None = None) -> int:
    return run(
        SERVICE,
        settings=Settings,
        create_app=create_app,
        loops=loops,
        commands={"bootstrap": bootstrap},
        argv=argv,
    )


if __name__ == "__main__":
    sys.exit(main())
