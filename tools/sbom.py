"""Write bills of materials in CycloneDX: what the lock of each image installs, and all that is locked.

    .cache/checks/bin/python tools/sbom.py [FOLDER]

`FOLDER/<image>.cdx.json` (default: build/sbom). The same lock makes the same bytes. Nothing is asked of the network.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SCHEMA = "1.6"
BUILD = "build"
"""Locks what makes the images, and is in none."""
IMAGE = {"python_version": "3.13", "python_full_version": "3.13.0", "sys_platform": "linux", "platform_system": "Linux"}
"""What a marker of a lock is true or false of, in an image."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    folder = Path(given[0]) if given else ROOT / "build" / "sbom"
    folder.mkdir(parents=True, exist_ok=True)
    for name, lock in locks(ROOT):
        content = bill(lock.read_text() if name == "lock" else installed(lock.read_text()), name, version(ROOT))
        (folder / f"{name}.cdx.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        sys.stdout.write(f"{name}.cdx.json: {len(content['components'])} packages\n")
    return 0


def locks(root: Path) -> Iterator[tuple[str, Path]]:
    yield "lock", root / "constraints.txt"
    for lock in sorted((root / "requirements" / "images").glob("*.txt")):
        if lock.stem != BUILD:
            yield lock.stem, lock


def installed(lock: str) -> str:
    """The lock without what an image's Python passes over."""
    kept = []
    for block in _blocks(lock):
        marker = Requirement(block.split("\n", 1)[0].rstrip(" \\")).marker
        if marker is None or marker.evaluate({**IMAGE}):
            kept.append(block)
    return "\n".join(kept) + "\n"


def _blocks(lock: str) -> Iterator[str]:
    """Each pin with its hashes."""
    block: list[str] = []
    for line in lock.splitlines():
        if line.startswith("    --hash"):
            block.append(line)
        elif not line.startswith((" ", "#")) and line:
            if block:
                yield "\n".join(block)
            block = [line]
    if block:
        yield "\n".join(block)


def version(root: Path) -> str:
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def bill(lock: str, name: str, release: str) -> dict[str, Any]:
    """The bill of one lock, with the image as what it is about. Raises CalledProcessError."""
    program = str(Path(sys.executable).with_name("cyclonedx-py"))
    options = ["--output-reproducible", "--sv", SCHEMA, "--of", "JSON", "--outfile", "-", "-"]
    done = subprocess.run([program, "requirements", *options], input=lock, check=True, capture_output=True, text=True)
    content: dict[str, Any] = json.loads(done.stdout)
    for component in content["components"]:
        component.pop("description", None)  # the line of the lock again, with all its hashes
    content.setdefault("metadata", {})["component"] = {
        "type": "container" if name != "lock" else "application",
        "bom-ref": "trainyard",
        "name": f"trainyard-{name}",
        "version": release,
    }
    return content


if __name__ == "__main__":
    sys.exit(main())
