"""Refuse what is too long to be read at once, and tests that patch or wait.

    python tools/size_gate.py [FOLDER]

No Python file over 400 lines, no function over 60. In tests: no `patch`, no mock, no `sleep`; the one place that may
poll is `kit.testing.eventually`.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
MAY_POLL = Path("libs/kit/src/kit/testing.py")
MOCKING = {"unittest", "mock", "pytest_mock"}
NO_PATCH = "a test does not patch: pass in what it needs"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    root = Path(given[0]) if given else Path.cwd()
    found = [mistake for path in sources(root) for mistake in mistakes(path, (root / path).read_text())]
    for mistake in found:
        sys.stdout.write(f"{mistake}\n")
    return 1 if found else 0


def sources(root: Path) -> Iterator[Path]:
    """The Python files of a repository, those not yet added too, relative to it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return (Path(line) for line in sorted(set(listed.stdout.splitlines())) if (root / line).exists())


def mistakes(path: Path, text: str) -> Iterable[str]:
    """What is wrong with one file, each as `path:line: words`."""
    tree = ast.parse(text)
    lines = len(text.splitlines())
    if lines > LONGEST_FILE:
        yield f"{path}:1: {lines} lines, {LONGEST_FILE} are the most"
    for node in ast.walk(tree):
        if isinstance(node, Function) and (length := _length(node)) > LONGEST_FUNCTION:
            yield f"{path}:{node.lineno}: {node.name} has {length} lines, {LONGEST_FUNCTION} are the most"
    if "tests" in path.parts or path.name == "conftest.py" or path == MAY_POLL:
        yield from _in_tests(path, tree)


def _length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _in_tests(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names) if any(name.name.split(".")[0] in MOCKING for name in names):
                yield f"{path}:{node.lineno}: {NO_PATCH}"
            case ast.ImportFrom(module=str(module), names=names) if _mocks(module, names):
                yield f"{path}:{node.lineno}: {NO_PATCH}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="monkeypatch" | "mocker"), attr=attr)):
                if attr in ("setattr", "patch", "object"):
                    yield f"{path}:{node.lineno}: {NO_PATCH}"
            case ast.Call(func=ast.Attribute(attr="sleep") | ast.Name(id="sleep")) if path != MAY_POLL:
                if not _gives_way(node):
                    yield f"{path}:{node.lineno}: a test does not sleep: use kit.testing.eventually"


def _mocks(module: str, names: Iterable[ast.alias]) -> bool:
    return module.split(".")[0] in MOCKING - {"unittest"} or (
        module.startswith("unittest") and (module == "unittest.mock" or any(name.name == "mock" for name in names))
    )


def _gives_way(call: ast.Call) -> bool:
    """`sleep(0)` waits for nothing: it lets other tasks run."""
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


if __name__ == "__main__":
    sys.exit(main())
