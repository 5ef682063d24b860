"""Build the images, or say how large they are.

python tools/images.py build [NAME…]     all but the one with torch; or these
python tools/images.py sizes             and ends with 1 where one is larger than it may be
"""

import argparse
import sys
import time
from collections.abc import Sequence

from containers import bases, images
from containers.engine import Own, Place, find
from containers.shell import Cannot, say


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    building = verbs.add_parser("build")
    building.add_argument("--base", help="the image they stand on")
    building.add_argument("names", nargs="*")
    verbs.add_parser("sizes")
    asked = parser.parse_args(arguments)
    try:
        return sizes() if asked.verb == "sizes" else build(asked.names, asked.base)
    except Cannot as exc:
        say(f"✘ {exc}")
        return 1


def build(names: Sequence[str], base: str | None = None) -> int:
    wanted = images.chosen(names)
    engine = find(Place.BUILD)
    commit = images.revision()
    for image in wanted:
        began = time.monotonic()
        images.build(engine, image, commit, base)
        say(f"{image.tag:<44} {images.size(engine, image) / 1e6:5.0f} MB  {time.monotonic() - began:4.0f} s")
    if not names:
        bases.stand_ins(engine)
    return 0


def sizes() -> int:
    found = images.sizes(find(Own().place or Place.BUILD))
    sys.stdout.write("| image | MB, uncompressed |\n|---|---|\n")
    sys.stdout.writelines(f"| {name} | {size / 1e6:.0f} |\n" for name, size in found.items())
    if large := images.too_large(found):
        say(f"✘ larger than {images.LIMIT / 1e6:.0f} MB: {', '.join(large)}")
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
