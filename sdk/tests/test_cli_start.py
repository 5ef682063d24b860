"""How the command line starts: what it loads, what it says of itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_suite import Answer, FakeSuite
from typer.testing import CliRunner

from trainyard.cli.main import COMMANDS, app, load

HEAVY = ("httpx2", "yaml", "trainyard.client", "trainyard.cli.datasets", "trainyard.cli.runs", "trainyard_local", "kit")


def trainyard(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from trainyard.cli.main import app; app(prog_name='trainyard')", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def test_help_loads_nothing_that_it_does_not_show() -> None:
    script = (
        "import json, sys\nfrom typer.testing import CliRunner\nfrom trainyard.cli.main import app\n"
        "done = CliRunner().invoke(app, ['--help'])\n"
        "print(json.dumps([done.exit_code, done.output, list(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, shown, modules = json.loads(done.stdout)
    assert code == 0
    assert [name for name in HEAVY if name in modules] == []
    assert [name for name in COMMANDS if name not in shown] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = CliRunner().invoke(app, [name, "--help"])
    assert (done.exit_code, COMMANDS[name].help.split(":")[0] in done.output) == (0, True)
    assert load(name).name == name


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    done = CliRunner().invoke(app, ["datset", "list"])
    assert done.exit_code == 2
    assert "dataset" in done.stderr


def test_alone_it_prints_its_help() -> None:
    assert "Usage" in CliRunner().invoke(app, []).output


def test_it_knows_its_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout.split()[0]) == (0, "trainyard")


def test_a_process_separates_data_from_messages(suite: FakeSuite, tmp_path: Path) -> None:
    suite.on("GET", "/v1/whoami", Answer(200, {"subject": "ada", "role": "admin"}))
    with suite.serve() as url:
        done = trainyard("whoami", "-o", "json", TRAINYARD_URL=url, TRAINYARD_API_KEY="k", TRAINYARD_HOME=str(tmp_path))
    assert (done.returncode, json.loads(done.stdout)["subject"], done.stderr) == (0, "ada", "")


def test_a_process_ends_with_the_code_of_its_failure(suite: FakeSuite, tmp_path: Path) -> None:
    with suite.serve() as url:
        done = trainyard("job", "get", "j1", TRAINYARD_URL=url, TRAINYARD_API_KEY="k", TRAINYARD_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr


def test_no_colour_without_a_terminal(suite: FakeSuite, tmp_path: Path) -> None:
    suite.on("GET", "/v1/whoami", Answer(200, {"subject": "ada"}))
    with suite.serve() as url:
        done = trainyard("whoami", TRAINYARD_URL=url, TRAINYARD_API_KEY="k", TRAINYARD_HOME=str(tmp_path))
    assert "\x1b" not in done.stdout
