"""From a file to a prediction, through the gateway alone."""

from suites_at_work import Suite
from worlds import BAD, ROWS, World


def test_a_file_becomes_predictions_and_the_second_run_makes_nothing_new(shared_suite: Suite, world: World) -> None:
    with shared_suite.client() as client:
        run = client.runs.wait(world.start(client, seed=1).id)
        assert run.phase == "succeeded", run.raw
        version = client.datasets.version(world.dataset)
        assert (version.rows_in, version.rejected) == (ROWS, BAD)
        answer = client.predict(world.name, [world.row()])
        assert (answer.model, answer.version) == (world.name, 1)
        assert world.made(client) == {"dataset versions": 1, "model versions": 1, "runs": 1, "jobs": 1}

        again = client.runs.wait(world.start(client, seed=1).id)
        assert again.phase == "succeeded"
        assert world.made(client) == {"dataset versions": 1, "model versions": 1, "runs": 2, "jobs": 1}

        other = client.runs.wait(world.start(client, seed=2).id)
        assert other.phase == "succeeded"
        assert world.made(client) == {"dataset versions": 2, "model versions": 2, "runs": 3, "jobs": 2}


def test_the_suite_at_rest_takes_little_memory(shared_suite: Suite, world: World) -> None:
    with shared_suite.client() as client:
        assert client.runs.wait(world.start(client, seed=1).id).phase == "succeeded"
        client.predict(world.name, [world.row()])
    assert shared_suite.memory() < 1_500_000_000
