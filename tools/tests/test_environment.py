"""Making the environment, without making one."""

import sys
from pathlib import Path

import environment
import pytest


def test_an_old_python_is_told_what_to_do() -> None:
    environment.refuse_old((3, 11))
    environment.refuse_old((3, 14))
    with pytest.raises(environment.CannotInstall, match=r"This is Python 3\.9.*make PYTHON="):
        environment.refuse_old((3, 9))


def test_every_package_of_the_repository_is_installed() -> None:
    names = {str(folder.relative_to(environment.ROOT)) for folder in environment.packages_in(environment.ROOT)}
    services = {f"services/{name}" for name in ("ingest", "trainer", "registry", "serving", "pipelines", "gateway")}
    assert names == services | {"libs/kit", "libs/models", "sdk", "deploy/local"}


def test_pip_is_followed_and_its_end_kept() -> None:
    said: list[str] = []
    lines = ["Collecting numpy==2.4.6 (from -r run.txt (line 3))\n", "  Using cached x.whl\n"] * 40
    last = environment.follow([*lines, "Installing collected packages: numpy\n", "done\n"], said.append)
    assert (said[0], said[39], said[-1]) == ("    1 numpy", "   40 numpy", "  unpacking …")
    assert len(last) == environment.TAIL
    assert last[-1] == "done"


def test_a_log_gets_the_headings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    say = environment.status_line(terminal=False)
    say("Installing …")
    say("  1 numpy")
    assert capsys.readouterr().err == "Installing …\n"


def test_a_terminal_gets_one_line_that_changes(capsys: pytest.CaptureFixture[str]) -> None:
    environment.status_line(terminal=True)("  1 numpy")
    assert capsys.readouterr().err == "\r\x1b[K  1 numpy\r"


def test_an_environment_that_works_is_left_alone() -> None:
    venv = Path(sys.prefix)
    before = (venv / "pyvenv.cfg").stat()
    assert environment.made(venv) == venv / "bin" / "python"
    assert (venv / "pyvenv.cfg").stat().st_ino == before.st_ino


def test_a_lock_that_pip_refuses_shows_its_words(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("no-hash-here==1\n")
    with pytest.raises(environment.CannotInstall, match=r"(?s)pip failed:.*hash"):
        environment.install(Path(sys.executable), lock, [], environment.status_line(terminal=False))
