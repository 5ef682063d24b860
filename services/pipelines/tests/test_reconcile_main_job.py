"""The main job, from an upload to a deployment, with every neighbour in memory."""

from worlds import World, main_job


async def test_a_run_goes_from_an_upload_to_a_deployment(world: World) -> None:
    run_id = await world.start(main_job())
    run = await world.settle(run_id)
    assert (run.phase, run.message) == ("succeeded", "")
    steps = await world.steps(run_id)
    assert {step.phase for step in steps.values()} == {"succeeded"}
    assert steps["ingest"].outputs is not None
