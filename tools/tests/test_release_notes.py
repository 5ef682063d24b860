"""Fragments become a section once, and a release prints its own."""

from datetime import date
from pathlib import Path

import pytest
import release_notes
from release_notes import NoNotes, main, released, section_of, with_section

HEAD = "# Changelog\n\nWhat users notice, newest first.\n"
DAY = date(2026, 12, 1)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "CHANGELOG.md").write_text(HEAD)
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d" / "README.md").write_text("How to write one.\n")
    (tmp_path / "changelog.d" / "b.md").write_text("* Jobs stop.\n  At once.\n* Jobs start.\n")
    (tmp_path / "changelog.d" / "a.md").write_text("Models can be\nread.\n")
    return tmp_path


def test_a_fragment_is_a_bullet_and_a_list_stays_one() -> None:
    section = section_of("1.2.0", DAY, ["Models can be\nread.\n", "* Jobs stop.\n* Jobs start.\n"])
    assert section == "## 1.2.0 (2026-12-01)\n\n* Models can be\n  read.\n* Jobs stop.\n* Jobs start.\n"


@pytest.mark.parametrize("fragments", [[], ["  \n"], ["Fine.", ""], ["## A heading\n\nwould be a release of its own"]])
def test_what_says_nothing_or_too_much_is_refused(fragments: list[str]) -> None:
    with pytest.raises(NoNotes):
        section_of("1.2.0", DAY, fragments)


def test_the_newest_is_on_top_and_older_ones_stay() -> None:
    older = with_section(HEAD, "## 1.0.0 (2026-11-01)\n\n* Old.\n", "1.0.0")
    both = with_section(older, "## 1.1.0 (2026-12-01)\n\n* New.\n", "1.1.0")
    assert both == HEAD + "\n## 1.1.0 (2026-12-01)\n\n* New.\n\n## 1.0.0 (2026-11-01)\n\n* Old.\n"
    assert (released(both, "1.1.0"), released(both, "1.0.0")) == ("* New.\n", "* Old.\n")


def test_a_version_has_one_section() -> None:
    with pytest.raises(NoNotes, match=r"has a section 1\.0\.0 already"):
        with_section("# Changelog\n\n## 1.0.0 (2026-11-01)\n\n* Old.\n", "", "1.0.0")


def test_a_dry_run_changes_nothing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_text() for path in repository.rglob("*.md")}
    assert main(["v1.2.0"], repository) == 0
    assert {path: path.read_text() for path in repository.rglob("*.md")} == before
    assert "* Models can be\n  read.\n* Jobs stop.\n" in capsys.readouterr().out


def test_writing_takes_the_fragments_and_leaves_their_readme(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["1.2.0", "--write"], repository) == 0
    assert [path.name for path in (repository / "changelog.d").iterdir()] == ["README.md"]
    capsys.readouterr()
    assert main(["v1.2.0", "--released"], repository) == 0
    assert capsys.readouterr().out == "* Models can be\n  read.\n* Jobs stop.\n  At once.\n* Jobs start.\n"
    # Twice: nothing is left to write, and nothing is lost.
    assert main(["1.2.0", "--write"], repository) == 1
    assert "Jobs start" in (repository / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("version", ["", "1.2", "1.2.0; rm -rf /", "01.2.0", "latest", "1.2.0-rc", "../1.2.0"])
def test_what_is_no_version_is_refused(repository: Path, version: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--", version] if version.startswith("-") else [version], repository) == 1
    assert "is no version" in capsys.readouterr().err


def test_a_release_without_notes_is_told_what_to_do(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["9.0.0", "--released"], repository) == 1
    assert "make release-notes VERSION=9.0.0 WRITE=1" in capsys.readouterr().err


def test_every_fragment_of_this_repository_can_be_released() -> None:
    texts = [path.read_text() for path in release_notes.fragments_in(release_notes.ROOT / "changelog.d")]
    if texts:
        assert section_of("1.0.0", DAY, texts)
