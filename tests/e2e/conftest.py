"""What the tests of the whole suite share."""

import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `suites_at_work` and `worlds`

from suites_at_work import Suite
from worlds import World


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows the end of every program's log: its suite is gone when somebody looks."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for suite in (it for it in item.funcargs.values() if isinstance(it, Suite)):
            report.sections += [(f"log of {name}", suite.words(name)) for name in suite.logged()]
    return report


@pytest.fixture(scope="session")
def shared_suite() -> Iterator[Suite]:
    """One suite for all tests that leave it whole. Each makes names of its own in it."""
    with Suite() as suite:
        suite.start()
        yield suite


@pytest.fixture
def suite() -> Iterator[Suite]:
    """A suite of one test, not started yet."""
    with Suite() as suite:
        yield suite


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """Data, a pipeline and names that no other test has."""
    name = str(request.node.name).lower().replace("_", "-")
    return World("".join(letter for letter in name if letter.isalnum() or letter == "-")[5:45].strip("-"))
