"""docker compose with the images that were built here, in the engine at hand or in one of our own.

python tools/compose.py up | down [--volumes] | ps | logs …     whatever `docker compose` understands
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from containers.engine import ROOT, Engine, Place, find
from containers.shell import Cannot, say

LOCAL = ("docker-compose.yml", "deploy/compose/local-images.yml")
"""The second says that images are not pulled."""
UP = ("up", "--detach", "--wait", "--wait-timeout", "300")


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        engine = find(Place.RUN)
    except Cannot as exc:
        say(f"✘ {exc}")
        return 1
    command = words(engine, *(UP if given[:1] == ["up"] else given[:1]), *given[1:])
    os.chdir(ROOT)
    return subprocess.run(command, env=dict(engine.environment)).returncode


def words(engine: Engine, *asked: str) -> list[str]:
    """`docker compose …` where what it publishes can be reached."""
    files = [word for file in LOCAL for word in ("--file", str(ROOT / file))]
    return engine.inside(["docker", "compose", "--project-directory", str(ROOT), *files, *asked])


if __name__ == "__main__":
    sys.exit(main())
