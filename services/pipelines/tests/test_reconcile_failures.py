"""What goes wrong: what passes is tried again, what does not fails with its words, and a run can be resumed."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from neighbours import Answer, problem
from worlds import DEPLOY, INGEST, PROMOTE, TRAIN, UPLOAD, World, main_job, pipeline_of

from pipelines.domain.expressions import Verdict
from pipelines.domain.steps import PATIENCE
from pipelines.store.tables import steps

ONE = {"upload": UPLOAD}
GATE = {"kind": "gate", "with": {"require": ["true"]}}


async def waits(world: World, name: str) -> float:
    """Seconds until the step is looked at again."""
    async with world.engine.begin() as connection:
        left = sa.extract("epoch", steps.c.due_at - sa.func.clock_timestamp())
        return float((await connection.execute(sa.select(left).where(steps.c.name == name))).scalar_one())


async def test_a_neighbour_that_is_away_is_waited_for_longer_and_longer(world: World) -> None:
    run_id = await world.start(pipeline_of(ONE, ingest=INGEST))
    world.ingest.away = True
    pauses = []
    for _ in range(4):
        await world.once()
        pauses.append(await waits(world, "ingest"))
        await world.expire()
    assert [0.2 < pauses[0] <= 0.25, 0.4 < pauses[1] <= 0.5, 0.9 < pauses[2] <= 1, 1.9 < pauses[3] <= 2] == [True] * 4
    step = (await world.steps(run_id))["ingest"]
    assert (step.phase, step.reason, step.message) == ("running", "retrying", "The service ingest is not answering.")
    assert (step.failures, step.attempt) == (4, 1)
    world.ingest.away = False
    assert (await world.settle(run_id)).phase == "succeeded"
    assert (await world.steps(run_id))["ingest"].attempt == 1


async def test_it_is_not_looked_at_before_its_time(world: World) -> None:
    await world.start(pipeline_of(ONE, ingest=INGEST))
    world.ingest.away = True
    for _ in range(3):
        await world.once()
        await world.expire()
    await world.once()
    assert await world.once() == 0


async def test_patience_has_an_end_and_a_resume_goes_on_in_the_same_attempt(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job())
    for _ in range(2):
        await world.once()
    [job_id] = world.trainer.jobs
    world.trainer.away = True
    await world.expire()
    await world.once()
    async with world.engine.begin() as connection:
        await connection.execute(sa.update(steps).values(failing_since=steps.c.failing_since - PATIENCE))
    await world.expire()
    await world.once()
    run = await world.run(run_id)
    assert (run.phase, run.message) == ("failed", "Step train failed: The service trainer is not answering.")
    world.trainer.away = False
    world.trainer.finish(job_id)
    await world.resume(run_id)
    assert (await world.settle(run_id)).phase == "succeeded"
    step = (await world.steps(run_id))["train"]
    assert step.attempt == 1
    assert step.outputs is not None
    assert step.outputs["job"] == job_id
    assert len(world.trainer.jobs) == 1


async def test_a_failed_look_is_forgotten_by_a_good_one(world: World) -> None:
    world.ingest.at_once = False
    run_id = await world.start(pipeline_of(ONE, ingest=INGEST))
    world.ingest.away = True
    await world.once()
    world.ingest.away = False
    await world.expire()
    await world.once()
    step = (await world.steps(run_id))["ingest"]
    assert (step.failures, step.failing_since, step.reason) == (0, None, "")


async def test_a_job_that_crashed_is_begun_anew_with_backoff_and_fails_in_the_end(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(pipeline_of(ONE, ingest=INGEST, train={**TRAIN, "retries": 1}))
    await world.once()
    for number in (1, 2):
        await world.expire()
        await world.once()
        world.trainer.finish(list(world.trainer.jobs)[number - 1], "failed", "crashed", "It ended by signal 9.")
        await world.expire()
        await world.once()
        if number == 1:
            assert 0.5 < await waits(world, "train") <= 1
    run = await world.run(run_id)
    assert run.phase == "failed"
    assert run.message.startswith("Step train failed: It ended by signal 9. (job ")
    step = (await world.steps(run_id))["train"]
    assert (step.attempt, step.reason) == (2, "crashed")
    assert len(world.trainer.jobs) == 2


async def test_a_job_that_can_never_work_is_not_begun_again(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job())
    for _ in range(2):
        await world.once()
    world.trainer.finish(next(iter(world.trainer.jobs)), "failed", "user-error", "There is no column late.")
    run = await world.settle(run_id)
    assert run.message.startswith("Step train failed: There is no column late.")
    assert await world.phases(run_id) == {
        "ingest": "succeeded",
        "train": "failed",
        "gate": "skipped",
        "promote": "skipped",
        "deploy": "skipped",
    }
    assert len(world.trainer.jobs) == 1


async def test_somebody_elses_cancel_of_the_job_fails_the_step(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job())
    for _ in range(2):
        await world.once()
    [job] = world.trainer.jobs.values()
    job["status"] = {"phase": "cancelled"}
    assert "was cancelled" in (await world.settle(run_id)).message


async def test_a_resumed_run_goes_on_from_the_step_that_failed(world: World) -> None:
    world.expressions.said["steps.train.outputs.metrics.roc_auc > parameters.minimum_auc"] = Verdict(False)
    run_id = await world.start(main_job())
    run = await world.settle(run_id)
    assert run.message == (
        "Step gate failed: `steps.train.outputs.metrics.roc_auc > parameters.minimum_auc` is false "
        "(steps.train.outputs.metrics.roc_auc = 0.72, parameters.minimum_auc = 0.6)"
    )
    assert world.registry.moves == []
    done = (await world.steps(run_id))["train"]
    world.expressions.said.clear()
    await world.resume(run_id)
    assert (await world.run(run_id)).phase == "running"
    assert (await world.settle(run_id)).phase == "succeeded"
    after = await world.steps(run_id)
    assert after["train"] == done
    assert (after["gate"].attempt, after["promote"].attempt) == (2, 1)
    assert len(world.trainer.jobs) == 1


async def test_a_cancelled_run_can_be_resumed_with_a_new_job(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job())
    for _ in range(2):
        await world.once()
    await world.cancel(run_id)
    await world.once()
    world.trainer.at_once = True
    await world.resume(run_id)
    assert (await world.settle(run_id)).phase == "succeeded"
    assert [job["status"]["phase"] for job in world.trainer.jobs.values()] == ["cancelled", "succeeded"]


async def test_a_cancel_after_a_resume_ends_what_had_begun_before(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job())
    for _ in range(2):
        await world.once()
    for _ in range(2):
        await world.cancel(run_id)
        await world.once()
        await world.expire()
        await world.once()
        assert (await world.run(run_id)).phase == "cancelled"
        await world.resume(run_id)
    await world.cancel(run_id)
    await world.once()
    assert (await world.run(run_id)).phase == "cancelled"


async def test_a_step_that_takes_too_long_fails_and_its_job_is_ended(world: World) -> None:
    world.trainer.at_once = False
    run_id = await world.start(main_job(train={"timeout": "1m"}))
    for _ in range(2):
        await world.once()
    async with world.engine.begin() as connection:
        late = sa.update(steps).where(steps.c.name == "train")
        await connection.execute(late.values(attempt_at=steps.c.attempt_at - timedelta(minutes=2)))
    await world.expire()
    await world.once()
    run = await world.run(run_id)
    assert run.message == "Step train failed: It did not end within 60 s."
    assert (await world.steps(run_id))["train"].reason == "timeout"
    assert [job["status"]["phase"] for job in world.trainer.jobs.values()] == ["cancelled"]


async def test_a_refused_job_fails_with_its_place(world: World) -> None:
    run_id = await world.start(main_job(train={"with": {"estimator": {"class": "nonsense"}}}))
    run = await world.settle(run_id)
    assert run.message == "Step train failed: Unknown estimator. #/estimator/class is no estimator"
    assert (await world.steps(run_id))["train"].reason == "invalid"
    assert world.trainer.asked("POST") == 1


@pytest.mark.parametrize(
    ("upload", "message"),
    [("", "with.upload: String should match pattern"), ("sha256:zz", "with.upload: String should match pattern")],
)
async def test_inputs_that_do_not_fit_fail_the_step(world: World, upload: str, message: str) -> None:
    run_id = await world.start(pipeline_of({"upload": ""}, ingest=INGEST), {"upload": upload})
    assert message in (await world.settle(run_id)).message
    assert world.ingest.requests == []


async def test_an_output_that_is_not_there_fails_the_step(world: World) -> None:
    promote = {**PROMOTE, "needs": ["ingest"], "with": PROMOTE["with"] | {"version": "${{ steps.ingest.outputs.no }}"}}
    run_id = await world.start(pipeline_of(ONE, ingest=INGEST, promote=promote))
    assert (await world.settle(run_id)).message == "Step promote failed: There is no steps.ingest.outputs.no."


@pytest.mark.parametrize(("step", "expression"), [({**GATE, "when": "parameters.x"}, "parameters.x"), (GATE, "true")])
async def test_an_expression_without_an_answer_fails_the_step(
    world: World, step: dict[str, Any], expression: str
) -> None:
    world.expressions.said[expression] = Verdict(None, "takes too long")
    run_id = await world.start(pipeline_of({"x": True}, a=step))
    assert (await world.settle(run_id)).message == f"Step a failed: `{expression}` takes too long"
    assert (await world.steps(run_id))["a"].reason == "expression"


async def test_rows_that_were_refused_fail_the_run_in_their_words(world: World) -> None:
    world.ingest.at_once = False
    run_id = await world.start(pipeline_of(ONE, ingest=INGEST))
    await world.once()
    world.ingest.finish("flights", 1, "failed", reason="bad-header", message="The header names a column twice.")
    assert (await world.settle(run_id)).message == "Step ingest failed: The header names a column twice."
    assert (await world.steps(run_id))["ingest"].reason == "bad-header"


async def test_beside_a_failure_independent_steps_go_on(world: World) -> None:
    world.expressions.said["false"] = Verdict(False)
    bad = {"kind": "gate", "with": {"require": ["false"]}}
    run_id = await world.start(pipeline_of(ONE, bad=bad, after={**GATE, "needs": ["bad"]}, ingest=INGEST))
    assert (await world.settle(run_id)).phase == "failed"
    assert await world.phases(run_id) == {"bad": "failed", "after": "skipped", "ingest": "succeeded"}


async def _deploying(world: World) -> Any:
    """A run whose deployment is not ready yet."""
    world.registry.register("delays", "x")
    world.serving.at_once = False
    deploy = {**DEPLOY, "needs": [], "with": {"deployment": "delays", "model": "delays@1"}}
    run_id = await world.start(pipeline_of(deploy=deploy))
    await world.once()
    assert (await world.phases(run_id))["deploy"] == "running"
    return run_id


async def test_a_deployment_that_fails_fails_the_step(world: World) -> None:
    run_id = await _deploying(world)
    world.serving.finish("delays", "failed", "load-failed", "The file is damaged.")
    assert (await world.settle(run_id)).message == "Step deploy failed: The file is damaged."


async def test_a_deployment_of_before_is_not_an_answer(world: World) -> None:
    """Ready, but at the generation that was there before ours."""
    run_id = await _deploying(world)
    world.serving.deployments["delays"]["status"] = {"phase": "ready", "observed_generation": 0}
    await world.expire()
    await world.once()
    assert (await world.phases(run_id))["deploy"] == "running"


async def test_a_deployment_that_somebody_else_changes_fails_the_step(world: World) -> None:
    run_id = await _deploying(world)
    found = world.serving.deployments["delays"]
    found |= {"generation": 2, "models": [{"model": "delays@9", "weight": 100}]}
    assert "was told to serve something else meanwhile" in (await world.settle(run_id)).message


async def test_an_alias_that_somebody_moves_meanwhile_is_looked_at_again(world: World) -> None:
    for content in ("x", "y"):
        world.registry.register("delays", content)

    async def meddle(request: httpx2.Request) -> Answer | None:
        if request.method == "PUT":
            world.registry.before = None
            world.registry.aliases["delays", "champion"] = 2
        return None

    world.registry.before = meddle
    promote = {**PROMOTE, "needs": [], "with": {"model": "delays", "version": 1, "alias": "champion"}}
    run_id = await world.start(pipeline_of(promote=promote))
    assert (await world.settle(run_id)).phase == "succeeded"
    assert world.registry.aliases["delays", "champion"] == 1
    assert (await world.steps(run_id))["promote"].attempt == 2


async def test_a_move_whose_answer_was_lost_was_a_move(world: World) -> None:
    world.registry.register("delays", "x")

    async def lose(request: httpx2.Request) -> None:
        if request.method == "PUT":
            world.registry.after = None
            raise httpx2.ReadTimeout("lost", request=request)

    world.registry.after = lose
    promote = {**PROMOTE, "needs": [], "with": {"model": "delays", "version": 1, "alias": "champion"}}
    run_id = await world.start(pipeline_of(promote=promote))
    assert (await world.settle(run_id)).phase == "succeeded"
    assert world.registry.moves == [("champion", 1)]
    assert (await world.steps(run_id))["promote"].attempt == 1


async def test_a_change_whose_answer_was_lost_was_a_change(world: World) -> None:
    world.registry.register("delays", "x")
    world.serving.deployments["delays"] = {
        "name": "delays",
        "generation": 4,
        "models": [{"model": "delays@9", "weight": 100}],
        "status": {"phase": "ready", "observed_generation": 4},
    }

    async def lose(request: httpx2.Request) -> None:
        if request.method == "PUT":
            world.serving.after = None
            raise httpx2.ReadTimeout("lost", request=request)

    world.serving.at_once = False
    world.serving.after = lose
    deploy = {**DEPLOY, "needs": [], "with": {"deployment": "delays", "model": "delays@1"}}
    run_id = await world.start(pipeline_of(deploy=deploy))
    await world.once()
    world.serving.finish("delays")
    assert (await world.settle(run_id)).phase == "succeeded"
    assert world.serving.deployments["delays"]["generation"] == 5


async def test_a_request_of_ours_that_is_under_way_is_waited_for(world: World) -> None:
    async def busy(request: httpx2.Request) -> Answer | None:
        if request.method == "POST":
            world.ingest.before = None
            return problem(409, "idempotency-in-progress", "Under way.")
        return None

    world.ingest.before = busy
    run_id = await world.start(pipeline_of(ONE, ingest=INGEST))
    assert (await world.settle(run_id)).phase == "succeeded"
    assert (await world.steps(run_id))["ingest"].attempt == 1
