"""Build the images, bring the suite up with compose, and ask it: `make containers-test`.

    python tools/containers_test.py [--keep]     --keep: leave our own engine running

In an engine of this machine or in one of our own, whose network nothing else sees. Where neither can be had it says so
and ends well; with CI_REQUIRE_CONTAINERS=1 that is a failure. With CI set, our own engine leaves nothing on the disk.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from containers import bases, images
from containers.engine import ROOT, Own, Place, find
from containers.shell import Cannot, say

ROOM = 10_000_000_000
"""Bytes free on the disk to begin with: the images, their build cache and what the suite writes take 9 GB."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("pytest", nargs="*", help="what else pytest is told")
    asked = parser.parse_args(arguments)
    try:
        engine = find(Place.BUILD)
    except Cannot as exc:
        say(f"\n!! NO CONTAINERS: images and compose are NOT tested here. {exc}\n")
        return 1 if os.environ.get("CI_REQUIRE_CONTAINERS") == "1" else 0
    try:
        return test(asked.pytest)
    except Cannot as exc:
        say(f"✘ {exc}")
        return 1
    finally:
        if engine.own and not asked.keep:
            Own().wipe() if os.environ.get("CI") else Own().down()


def test(options: Sequence[str]) -> int:
    began = time.monotonic()
    engine = find(Place.BUILD)
    if engine.own and not engine.docker("image", "ls", "--quiet"):
        require_room(shutil.disk_usage(ROOT).free)
    commit = images.revision()
    for image in images.chosen([]):
        started = time.monotonic()
        images.build(engine, image, commit)
        say(f"{image.name:<14} {images.size(engine, image) / 1e6:5.0f} MB  {time.monotonic() - started:4.0f} s")
    made = bases.stand_ins(engine)
    if large := images.too_large(images.sizes(engine)):
        raise Cannot(f"Larger than {images.LIMIT / 1e6:.0f} MB: {', '.join(large)}.")
    say(
        f"images after {time.monotonic() - began:.0f} s"
        + (f"; stand-ins, not the official: {', '.join(made)}" * bool(made))
    )
    fetch_data()
    engine = find(Place.RUN)
    environment = {**engine.environment, "TRAINYARD_CONTAINERS": "1", "TRAINYARD_TAG": images.version()}
    command = engine.inside([sys.executable, "-m", "pytest", "-s", "-v", "-x", "tests/compose", *options])
    code = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL).returncode
    say(f"containers-test took {time.monotonic() - began:.0f} s")
    return code


def require_room(free: int) -> None:
    """
    Raises:
        Cannot: so many bytes are too few to begin with nothing: the disk would be full in the middle.
    """
    if free < ROOM:
        raise Cannot(
            f"The disk has {free / 1e9:.1f} GB free; images and compose need {ROOM / 1e9:.0f}. Free some first."
        )


def fetch_data() -> None:
    """The example's data, while there is a way out: the network in which the suite runs has none."""
    command = [sys.executable, str(ROOT / "examples/flight-delays/prepare.py"), "--data", "2013-h1"]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
        raise Cannot("The data of the example cannot be had.")


if __name__ == "__main__":
    sys.exit(main())
