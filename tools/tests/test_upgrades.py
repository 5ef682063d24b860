"""Which release is the previous one, and that a migration it would notice is found."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import upgrades

Git = Callable[..., str]
PLANTED = '''
"""{kind}: planted"""

from alembic import op

revision = "{number}"
down_revision = "{before}"


def upgrade() -> None:
    op.execute("{statement}")
'''


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """git in a new repository with one commit."""
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"]

    def run(*words: str) -> str:
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    run("init", "--quiet")
    run("commit", "--quiet", "--allow-empty", "-m", "first")
    return run


def commit(git: Git, *tags: str) -> str:
    git("commit", "--quiet", "--allow-empty", "-m", "next")
    for tag in tags:
        git("tag", tag)
    return git("rev-parse", "HEAD")


def test_the_newest_release_behind_this_commit_is_the_previous_one(git: Git, tmp_path: Path) -> None:
    commit(git, "v0.9.0")
    newest = commit(git, "v0.10.0", "other")
    commit(git, "v0.11.0")  # this very release
    assert upgrades.previous(tmp_path) == newest
    assert upgrades.previous(tmp_path, "v0.9.0") == git("rev-parse", "v0.9.0")


def test_before_the_first_release_a_commit_is_named(git: Git, tmp_path: Path) -> None:
    named = commit(git)
    commit(git)
    with pytest.raises(upgrades.NoHistory, match="no tag"):
        upgrades.previous(tmp_path)
    (tmp_path / "contracts").mkdir()
    (tmp_path / upgrades.NAMED).write_text(f"{named}\n")
    assert upgrades.previous(tmp_path) == named


def test_where_git_has_no_history_it_says_so_and_fails_when_that_is_required(
    git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ["store-tests", "--previous", "0" * 40]
    monkeypatch.delenv("CI_REQUIRE_HISTORY", raising=False)
    assert upgrades.main(nowhere) == 0
    assert "!! NO PREVIOUS RELEASE" in capsys.readouterr().err
    monkeypatch.setenv("CI_REQUIRE_HISTORY", "1")
    assert upgrades.main(nowhere) == 1
    assert upgrades.main(["export", str(tmp_path / "x"), "--previous", "0" * 40]) == 1


def test_the_named_commit_is_one_that_the_tool_finds_or_misses_loudly() -> None:
    named = (upgrades.ROOT / upgrades.NAMED).read_text().strip()
    assert len(named) == 40
    try:
        upgrades.previous(upgrades.ROOT)
    except upgrades.NoHistory as exc:
        pytest.skip(str(exc))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "statement", "code"),
    [
        ("expand", "alter table models add column planted text", 0),
        ("contract", "alter table models drop column description", 1),
        ("contract", "alter table versions rename column manifest to contents", 1),
    ],
)
def test_a_migration_that_the_previous_release_would_notice_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, statement: str, code: int
) -> None:
    try:
        upgrades.previous(upgrades.ROOT)
    except upgrades.NoHistory as exc:
        pytest.skip(str(exc))
    for folder in ("libs", "services"):
        shutil.copytree(
            upgrades.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("tests", "__pycache__")
        )
    versions = tmp_path / "services/registry/src/registry/store/migrations/versions"
    last = max(path.name[:4] for path in versions.glob("[0-9]*.py"))
    number = f"{int(last) + 1:04}"
    text = PLANTED.format(kind=kind, number=number, before=last, statement=statement)
    (versions / f"{number}_{kind}_planted.py").write_text(text)
    assert upgrades.main(["store-tests", "--service", "registry", "--new", str(tmp_path)]) == code
    said = capsys.readouterr().out
    assert ("FAILED" in said) is (code == 1), said
    assert " 0 tests" not in said
