"""mypy, strict, over every package and its tests.

    python tools/check_types.py

The packages together, then each folder of tests by itself: their helpers have short names (`worlds`, `conftest`), which
a folder's own path makes its own.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    codes = [mypy(folders, path) for folders, path in runs(ROOT)]
    return 1 if any(codes) else 0


def runs(root: Path) -> Iterator[tuple[list[str], str]]:
    """What is checked at once, and where its helpers are found."""
    sources = [*root.glob("libs/*/src"), root / "sdk/src", root / "deploy/local/src", *root.glob("services/*/src")]
    yield [str(folder.relative_to(root)) for folder in sorted(sources)], ""
    yield ["conftest.py"], ""
    yield ["tools"], "tools:tools/tests"
    if (root / "deploy/images").is_dir():
        yield ["deploy/images"], "deploy/images"
    if (root / "benchmarks").is_dir():
        # Its peers run in environments of their own, which this one knows nothing of.
        yield ["benchmarks", "--exclude=benchmarks/peers/"], ""
    for example in sorted(root.glob("examples/*")):
        here = str(example.relative_to(root))
        yield [here], f"{here}:{here}/tests:sdk/tests"  # the client has a fake suite
    for folder in sorted(source.parent / "tests" for source in sources if (source.parent / "tests").is_dir()):
        here = str(folder.relative_to(root))
        yield [here], "" if is_package(folder) else here
    for folder in sorted({path.parent for path in root.glob("tests/*/test_*.py")}):
        here = str(folder.relative_to(root))
        yield [here], f"{here}:tools"  # charts are rendered by a tool


def is_package(folder: Path) -> bool:
    """Whether its tests name their helpers by `from .helpers import …`, as pytest's importlib mode lets them."""
    return any(re.search(r"^from \.", file.read_text(), re.MULTILINE) for file in folder.glob("*.py"))


def mypy(folders: list[str], path: str) -> int:
    sys.stdout.write(f"{' '.join(folders)}: ")
    sys.stdout.flush()
    return subprocess.run(
        [sys.executable, "-m", "mypy", *folders], cwd=ROOT, env={**os.environ, "MYPYPATH": path}
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
