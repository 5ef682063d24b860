"""`up`, `down` and `status`: handed to the suite's own package, or told where it is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_suite import Answer, FakeSuite
from typer.testing import CliRunner

from trainyard.cli.main import app

LOCAL = """
import json, sys
def up(home, port, output):
    print(json.dumps(["up", home, port, output]))
def down(home, output):
    print(json.dumps(["down", home, output]))
def backup(folder, home, output):
    print(json.dumps(["backup", folder, home, output]))
def restore(folder, home, output):
    print(json.dumps(["restore", folder, home, output]))
def status(home, output):
    print(json.dumps(["status", home, output]))
    return {"phase": home}
"""


def called(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a Python that has a `trainyard_local` of our own."""
    package = folder / "trainyard_local"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text(LOCAL)
    script = f"import sys; sys.path.insert(0, {str(folder)!r}); from trainyard.cli.main import app; app()"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": ""})


@pytest.mark.parametrize(
    ("line", "told", "code"),
    [
        ("up --port 8090", ["up", None, 8090, "table"], 0),
        ("up --home h -o json", ["up", "h", None, "json"], 0),
        ("down", ["down", None, "table"], 0),
        ("backup b", ["backup", "b", None, "table"], 0),
        ("restore b --home h -o json", ["restore", "b", "h", "json"], 0),
        ("status --home up", ["status", "up", "table"], 0),
        ("status --home failed -o json", ["status", "failed", "json"], 1),
    ],
)
def test_the_suites_own_package_does_it(tmp_path: Path, line: str, told: list[object], code: int) -> None:
    done = called(tmp_path, *line.split())
    assert (json.loads(done.stdout), done.returncode) == (told, code), done.stderr


def test_without_the_suite_its_installation_is_the_next_step() -> None:
    script = "import sys\nsys.modules['trainyard_local'] = None\nfrom trainyard.cli.main import app\napp()"
    command = [sys.executable, "-c", script, "up"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Install trainyard-local" in done.stderr


@pytest.mark.parametrize(("ready", "code"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("output", ["table", "json"])
def test_another_machines_services_are_shown(suite: FakeSuite, ready: bool, code: int, output: str) -> None:
    suite.on("GET", "/v1/status", Answer(200, {"services": {"ingest": {"ready": ready}}}))
    with suite.serve() as url:
        environment = {"TRAINYARD_URL": url, "TRAINYARD_API_KEY": "k"}
        done = CliRunner(env=environment).invoke(app, ["status", "-o", output])
    assert (done.exit_code, "ingest" in done.stdout) == (code, True)
