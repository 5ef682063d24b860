"""The rules of our own, each with a workflow that breaks it; and the workflows that are there."""

from pathlib import Path

import check_workflows
import pytest
import yaml

COMMIT = "3d3c42e5aac5ba805825da76410c181273ba90b1"
OTHER = "5fda3b95a4ea91299a34e894583c3862153e4b97"
SOUND = f"""
on: push
permissions: {{}}
concurrency: ci
jobs:
  test:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    steps:
      - uses: actions/checkout@{COMMIT} # v7.0.1
        with:
          persist-credentials: false
      - uses: ./.github/actions/prepare
      - run: make check
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    (tmp_path / "Makefile").write_text("NAME := x\ncheck test: deps ## Both\n\ttrue\n.PHONY: nothing\n")
    return tmp_path


def found(repository: Path, text: str, name: str = "ci") -> list[str]:
    path = repository / ".github" / "workflows" / f"{name}.yml"
    path.write_text(text)
    return list(check_workflows.mistakes(repository, path.relative_to(repository)))


def test_a_sound_workflow_breaks_nothing(repository: Path) -> None:
    assert found(repository, SOUND) == []


@pytest.mark.parametrize(
    ("sound", "broken", "words"),
    [
        (f"@{COMMIT} # v7.0.1", "@v7", "not pinned"),
        (f"@{COMMIT} # v7.0.1", f"@{COMMIT[:12]} # v7.0.1", "not pinned"),
        (f"@{COMMIT} # v7.0.1", f"@{COMMIT}", "not pinned"),
        (f"@{COMMIT} # v7.0.1", f"@{COMMIT} # v7", "not pinned"),
        ("on: push", "on: pull_request_target", "pull_request_target"),
        ("permissions: {}", "permissions: {contents: write}", "permissions"),
        ("permissions: {}", "name: x", "permissions"),
        ("concurrency: ci", "name: x", "concurrency"),
        ("    timeout-minutes: 5\n", "", "test: no timeout-minutes"),
        ("persist-credentials: false", "persist-credentials: true", "leaves its token"),
        ("persist-credentials: false", "fetch-depth: 1", "leaves its token"),
        ("run: make check", "run: echo ${{ github.head_ref }}", "expression in a script"),
        ("run: make check", "run: make chekc", "make chekc is called"),
        ("run: make check", "run: cd x && A=1 make test NAME=2 lint", "make lint is called"),
        ("run: make check", "run: |\n          make check\n          make nothing", "make nothing is called"),
    ],
)
def test_each_rule_is_broken_by_its_breach(repository: Path, sound: str, broken: str, words: str) -> None:
    assert sound in SOUND
    told = found(repository, SOUND.replace(sound, broken))
    assert len(told) == 1
    assert words in told[0]


def test_words_about_making_are_no_call() -> None:
    assert check_workflows.called("echo how to make tests; make check WRITE=1") == {"check"}


def test_one_action_has_one_commit(repository: Path) -> None:
    found(repository, SOUND)
    assert check_workflows.one_commit_each(repository) == []
    found(repository, SOUND.replace(COMMIT, OTHER), "other")
    assert "pinned twice" in check_workflows.one_commit_each(repository)[0]


def test_the_workflows_of_this_repository_keep_the_rules() -> None:
    root = check_workflows.ROOT
    files = list(check_workflows.files(root))
    assert {path.name for path in files} >= {"ci.yml", "release.yml", "security.yml", "action.yml"}
    assert [mistake for path in files for mistake in check_workflows.mistakes(root, path)] == []
    assert check_workflows.one_commit_each(root) == []


def test_every_image_and_only_what_can_be_built_is_released() -> None:
    root = check_workflows.ROOT
    release = yaml.safe_load((root / ".github/workflows/release.yml").read_text())
    images = release["jobs"]["images"]["strategy"]["matrix"]["include"]
    files = sorted(path.relative_to(root) for path in root.glob("*/*/*Dockerfile"))
    assert sorted(Path(image["file"]) for image in images) == files
    for image in images:
        assert (root / "requirements" / "images" / f"{image['lock']}.txt").exists()
        # What its first lines say it is called is what it is pushed as.
        assert f"/{image['name']} ." in (root / image["file"]).read_text()
