"""From the previous release to this one and back, service by service, on data that is there, while it is asked."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from releases import ROOT, Load, Releases, environment_of, migrate, release_of
from suites_at_work import Suite
from worlds import World

from trainyard_local.home import SERVICES

# Whoever is asked comes before who asks.
ORDER = ("ingest", "registry", "trainer", "serving", "pipelines", "gateway")


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """This one, and the previous one as git has it."""
    old = tmp_path / "old"
    command = [sys.executable, str(ROOT / "tools" / "upgrades.py"), "export", str(old)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0 and not old.exists():
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return Releases(tmp_path / "python", old)


@pytest.fixture
def load(suite: Suite, world: World, releases: Releases) -> Iterator[Load]:
    """A suite of the previous release that has a model, and somebody who asks it."""
    suite.python = releases.python
    suite.start()
    with suite.client() as client:
        assert client.runs.wait(world.start(client, seed=1).id).phase == "succeeded"
    credentials = json.loads(suite.home.credentials.read_text())
    paths: dict[str, object] = {
        f"/v1/deployments/{world.name}/predict": {"rows": [world.row()]},
        f"/v1/models/{world.name}/versions": None,
        f"/v1/datasets/{world.dataset}/versions": None,
        "/v1/runs": None,
        "/v1/jobs": None,
    }
    with Load(credentials["url"], credentials["api_key"], paths) as load:
        yield load


def replace(suite: Suite, releases: Releases, load: Load, service: str, release: str) -> None:
    """End a service as an operator does; its supervisor starts it again, of the other release."""
    releases.choose(service, release)
    assert release_of(releases.python, service) == release
    programs = [service, "runner"] if service == "trainer" else [service]
    with load.restart():
        for program in programs:
            pid = suite.pid(program)
            os.kill(pid, signal.SIGTERM)
            suite.restarted(program, pid)


def work(suite: Suite, world: World, seed: int) -> None:
    """The main job on new data: a new version of the dataset and of the model."""
    with suite.client() as client:
        run = client.runs.wait(world.start(client, seed).id)
        assert run.phase == "succeeded", run
        made = world.made(client)
        assert made["dataset versions"] == made["model versions"] == seed, made


@pytest.mark.slow
def test_from_the_previous_release_and_back_on_data_that_is_there(
    suite: Suite, world: World, releases: Releases, load: Load
) -> None:
    # The tables first, while the old code works on them.
    for service in SERVICES:
        done = migrate(service, environment_of(suite.pid(service)))
        assert done.returncode == 0, done.stderr
    assert load.unexcused() == []
    work(suite, world, seed=2)

    for service in ORDER[:3]:
        replace(suite, releases, load, service, "new")
    work(suite, world, seed=3)  # half of them new
    for service in ORDER[3:]:
        replace(suite, releases, load, service, "new")
    work(suite, world, seed=4)

    # Back again, on the tables of the new one, whose migrations an old start does not know.
    for service in reversed(ORDER):
        replace(suite, releases, load, service, "old")
    work(suite, world, seed=5)
    assert load.unexcused() == []
    assert sum(status == 200 for _, _, status in load.answers) > 100
