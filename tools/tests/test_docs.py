"""The pages say what the code says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import settings_page

from kit import errors
from kit.problems import STATUS, code_of

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("services/*/*.md"), *ROOT.glob("libs/*/*.md")]
)
KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.Error)}
FRAMEWORK = {"not-found": 404, "method-not-allowed": 405, "internal-error": 500}
"""What comes from no class of ours."""


def classes_of(source: Path) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ClassDef):
            yield node.name, [ast.unparse(base) for base in node.bases]


def problems() -> dict[str, set[int]]:
    """Every code that a service can answer with, and its status: of one name, each service may have its own."""
    kinds: dict[str, set[type[errors.Error]]] = {f"errors.{name}": {kind} for name, kind in KINDS.items()}
    classes = [
        item
        for source in [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]
        for item in classes_of(source)
    ]
    for _ in range(3):  # errors of errors of errors
        for name, bases in classes:
            for base in bases:
                for kind in list(kinds.get(base, ())):
                    if kind is not errors.Error:  # what is of no kind never leaves a service
                        kinds.setdefault(name, set()).add(next(k for k in kind.__mro__ if k in STATUS))
    found: dict[str, set[int]] = {code: {status} for code, status in FRAMEWORK.items()}
    for name, several in kinds.items():
        code = code_of(type(name.removeprefix("errors."), (), {}))
        for kind in several - {errors.Error}:
            found.setdefault(code, set()).add(STATUS[kind])
    return found


def test_every_problem_has_a_heading_with_its_status() -> None:
    page = (ROOT / "docs" / "problems.md").read_text()
    headings = re.findall(r"^### ([a-z0-9-]+) \(([0-9, ]+)\)$", page, re.MULTILINE)
    written = {code: {int(status) for status in several.split(", ")} for code, several in headings}
    assert written == problems()


def test_the_page_of_settings_is_current() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run `make docs`"


def test_every_setting_of_a_service_says_what_it_is_for() -> None:
    rows = [line for line in settings_page.page().splitlines() if re.match(r"\| `[A-Z]+_[A-Z_]+` \|", line)]
    assert len(rows) > 20
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_made_can_be_made(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE):
        assert command in targets


@pytest.mark.parametrize("service", settings_page.SERVICES)
def test_every_service_says_what_it_is(service: str) -> None:
    text = (ROOT / "services" / service / "README.md").read_text()
    headings = " ".join(re.findall(r"^## (.+)$", text, re.MULTILINE)).lower()
    for part in ("owns", "calls", "called by", "runbook"):
        assert part in headings, part


def test_every_decision_is_listed_and_has_its_parts() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(page for page in folder.glob("0*.md"))
    listed = re.findall(r"\]\((0[^)]+)\)", (folder / "README.md").read_text())
    assert listed == [page.name for page in pages]
    for page in pages:
        parts = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences", "Alternatives"], page.name
