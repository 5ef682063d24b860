"""kill -9 anywhere changes nothing but the time."""

import re
from pathlib import Path

import pytest
from suites_at_work import Suite, until
from worlds import World, patiently

from trainyard import Client
from trainyard.results import Run

ROOT = Path(__file__).parents[2]
# Each where it has most to do, and those behind which everything goes once more.
AT_WORK = [
    ("ingest", "ingest"),
    ("pipelines", "ingest"),
    ("postgres", "ingest"),
    ("trainer", "train"),
    ("runner", "train"),
    ("registry", "train"),
    ("gateway", "train"),
    ("postgres", "train"),
    ("pipelines", "train"),
    ("registry", "deploy"),
    ("serving", "deploy"),
    ("pipelines", "deploy"),
]


def named_points() -> set[str]:
    """Every `failpoint("…")` of the services and their chassis."""
    found = set()
    for file in [*ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("libs/*/src/**/*.py")]:
        found |= set(re.findall(r'failpoint\(\s*"([^"]+)"', file.read_text()))
    return found


# These are not on the way from a file to a prediction: see services/serving/tests/test_batches_with_ingest.py.
ELSEWHERE = {it for it in named_points() if it.startswith(("serving.batch", "serving.part", "serving.prediction"))}
ELSEWHERE |= {it for it in named_points() if it.startswith(("ingest.part", "ingest.assembly"))}


def begun(client: Client, run: Run, step: str) -> bool:
    return next(it for it in client.runs.get(run.id).steps if it.name == step).status.phase not in ("waiting",)


def check_one_of_each(client: Client, world: World, run: Run, versions: int = 1) -> None:
    done = patiently(lambda: client.runs.wait(run.id))
    assert done.phase == "succeeded", done.raw
    made = world.made(client)
    assert (made["dataset versions"], made["model versions"]) == (versions, versions)
    assert client.models.version(world.name, "champion").version == versions
    assert until(lambda: client.predict(world.name, [world.row()]).version == versions)


@pytest.mark.slow
def test_a_kill_at_every_named_point_changes_nothing_but_the_time(suite: Suite, world: World) -> None:
    points = named_points() - ELSEWHERE
    assert len(points) >= 20
    suite.start()
    with suite.client() as client:
        check_one_of_each(client, world, world.start(client, seed=1))
    suite.stop()
    suite.start(failpoints=points)
    with suite.client() as client:
        check_one_of_each(client, world, world.start(client, seed=2), versions=2)
    assert suite.fired() == points


@pytest.mark.slow
@pytest.mark.parametrize(("program", "step"), AT_WORK)
def test_a_kill_during_a_run(shared_suite: Suite, world: World, program: str, step: str) -> None:
    with shared_suite.client() as client:
        run = world.start(client, seed=1)
        until(lambda: begun(client, run, step))
        shared_suite.kill(program)
        check_one_of_each(client, world, run)
    until(shared_suite.is_whole)
