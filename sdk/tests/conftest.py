"""What the tests of the client and the command line share."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `fake_suite` and `things`

from fake_suite import FakeSuite
from typer.testing import CliRunner, Result

from trainyard.cli.main import app
from trainyard.client import Client
from trainyard.wire import Wire


@pytest.fixture
def suite() -> FakeSuite:
    """A suite that answers what a test tells it to."""
    return FakeSuite()


@pytest.fixture
def client(suite: FakeSuite) -> Iterator[Client]:
    """A client of it, without a network."""
    with Client("http://suite", "ty_key", transport=suite.transport(), environment={}) as client:
        yield client


@pytest.fixture
def pauses() -> list[float]:
    """How long the wire paused, each time; no time passes."""
    return []


@pytest.fixture
def wire(suite: FakeSuite, pauses: list[float]) -> Iterator[Wire]:
    """The wire alone, whose pauses are only written down."""
    with suite.http() as http:
        yield Wire(http, pause=pauses.append)


@pytest.fixture
def call(suite: FakeSuite, tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """Run a command line; `stdin` is what is typed."""
    with suite.serve() as url:
        environment = {"TRAINYARD_URL": url, "TRAINYARD_API_KEY": "ty_key", "TRAINYARD_HOME": str(tmp_path)}

        def run(*arguments: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Result:
            return CliRunner(env=environment | (env or {})).invoke(app, list(arguments), input=stdin)

        yield run
