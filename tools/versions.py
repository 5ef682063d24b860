"""The version of this repository, in every place that says it.

python tools/versions.py                 print the places; ends with 1 when they differ
python tools/versions.py --is v1.2.0     and when it is another one: what a release asks before it builds anything
python tools/versions.py 1.2.0           write it everywhere
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
NUMBER = r"\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.\d+)?"
PLACES = {
    r"(?:.*/)?pyproject\.toml": rf'^(version = ")({NUMBER})(")$',
    r"deploy/helm/.*Chart\.yaml": rf'^((?: {{4}})?(?:version|appVersion): "?)({NUMBER})("?)$',
    r".*Dockerfile": rf"^(ARG VERSION=)({NUMBER})()$",
    r"(?:.*compose.*)\.ya?ml": rf"(TRAINYARD_TAG:-)({NUMBER})(\}})",
    r"services/gateway/src/gateway/api/document\.py": rf'^(VERSION = ")({NUMBER})(")$',
}
"""Which lines of which files. Indented versions of a Chart.yaml are those of its dependencies, which are ours."""


@dataclass(frozen=True)
class Place:
    file: str
    version: str


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("version", nargs="?", help="write this one everywhere")
    parser.add_argument("--is", dest="expected", help="such as v1.2.0: end with 1 when it is another one")
    asked = parser.parse_args(arguments)
    wanted = (asked.version or asked.expected or "").removeprefix("v")
    if wanted and not re.fullmatch(NUMBER, wanted):
        sys.stderr.write(f"✘ {wanted} is no version: MAJOR.MINOR.PATCH, and -rc.1 or the like behind it.\n")
        return 1
    if asked.version:
        write(root, wanted)
    found = list(places(root))
    for place in found:
        sys.stdout.write(f"{place.version:<12} {place.file}\n")
    return 0 if found and {place.version for place in found} == {wanted or found[0].version} else 1


def places(root: Path) -> Iterator[Place]:
    for file, pattern in files(root):
        for match in pattern.finditer((root / file).read_text()):
            yield Place(file, match[2])


def write(root: Path, version: str) -> None:
    for file, pattern in files(root):
        text = (root / file).read_text()
        (root / file).write_text(pattern.sub(rf"\g<1>{version}\g<3>", text))


def files(root: Path) -> Iterator[tuple[str, re.Pattern[str]]]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for file in sorted(set(listed)):
        for name, pattern in PLACES.items():
            if re.fullmatch(name, file) and (root / file).is_file():
                yield file, re.compile(pattern, re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
