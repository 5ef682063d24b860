"""Lines of other processes count too: `up`, `status` and the supervisor run as people run them.

A test that is measured puts a `sitecustomize` on its programs' path, so that those of ours measure themselves into
files beside the test's. What is killed leaves none.
"""

from pathlib import Path

from coverage import Coverage

_BEGIN = """
import sys

if any(argument.startswith("trainyard_local") for argument in sys.orig_argv):
    import coverage

    coverage.process_startup()
"""


def measured(path: Path) -> dict[str, str]:
    """What programs with `path` on their PYTHONPATH are told, so that their lines count. Nothing when ours do not."""
    current = Coverage.current()
    if current is None:
        return {}
    (path / "sitecustomize.py").write_text(_BEGIN)
    settings = path / "coverage.ini"
    data = Path(str(current.get_option("run:data_file"))).absolute()
    settings.write_text(f"[run]\nparallel = true\nsource_pkgs = trainyard_local\ndata_file = {data}\n")
    return {"COVERAGE_PROCESS_START": str(settings)}
