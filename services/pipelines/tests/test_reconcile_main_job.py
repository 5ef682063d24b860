"""The main job, from an upload to a deployment, with every neighbour in memory; and what is not made twice."""

from datetime import UTC, datetime, timedelta

import pytest
from worlds import ADA, GATE, INGEST, OTHER_UPLOAD, TRAIN, UPLOAD, World, main_job, pipeline_of

from kit.callers import Caller, Role
from kit.events import Event
from kit.testing import eventually
from pipelines.domain.expressions import Verdict
from pipelines.domain.runs import FINAL
from pipelines.kinds import doing
from pipelines.reconcile import wake


async def test_a_run_goes_from_an_upload_to_a_deployment(world: World) -> None:
    run_id = await world.start(main_job())
    run = await world.settle(run_id)
    assert (run.phase, run.reason, run.message) == ("succeeded", "", "")
    assert run.finished_at is not None
    steps = await world.steps(run_id)
    assert await world.phases(run_id) == dict.fromkeys(steps, "succeeded")
    assert {step.attempt for step in steps.values()} == {1}
    version, [job] = world.ingest.versions["flights"][0], world.trainer.jobs.values()
    assert steps["ingest"].outputs == {
        "dataset": "flights",
        "version": 1,
        "reference": "flights@1",
        "digest": version["digest"],
        "rows": 90,
        "rows_in": 100,
        "rejected": 10,
        "splits": {"train": 70, "held_out": 20},
    }
    assert steps["train"].outputs == {
        "job": job["id"],
        "metrics": {"roc_auc": 0.72, "baseline_roc_auc": 0.65},
        "model": "delays",
        "version": 1,
        "digest": job["model"]["digest"],
        "reference": "delays@1",
        "dataset": "flights@1",
    }
    assert steps["gate"].outputs == {"passed": True, "require": GATE["with"]["require"]}
    assert steps["promote"].outputs == {
        "model": "delays",
        "alias": "champion",
        "version": 1,
        "reference": "delays@champion",
        "moved": True,
    }
    assert steps["deploy"].outputs == {
        "deployment": "delays",
        "generation": 1,
        "revision": 1,
        "serves": ["delays@1"],
    }


async def test_neighbours_are_asked_in_the_name_of_whoever_began_the_run(world: World) -> None:
    await world.settle(await world.start(main_job(), caller=Caller("blue", Role.ADMIN, "ada", "gateway")))
    asked = [*world.ingest.principals, *world.trainer.principals, *world.registry.principals, *world.serving.principals]
    assert {(it["project"], it["role"], it["sub"], it["iss"]) for it in asked} == {
        ("blue", "editor", "ada", "pipelines")
    }


async def test_expressions_see_what_they_name(world: World) -> None:
    await world.settle(await world.start(main_job()))
    [data] = world.expressions.data
    assert data["parameters"] == {"upload": UPLOAD, "minimum_auc": 0.6}
    assert data["steps"].keys() == {"train"}
    assert data["steps"]["train"]["outputs"]["metrics"]["roc_auc"] == 0.72


async def test_a_second_run_makes_nothing_new(world: World) -> None:
    await world.settle(await world.start(main_job()))
    posts = world.ingest.asked("POST") + world.trainer.asked("POST")
    run_id = await world.start(main_job())
    assert (await world.settle(run_id)).phase == "succeeded"
    assert await world.phases(run_id) == {
        "ingest": "reused",
        "train": "reused",
        "gate": "succeeded",
        "promote": "succeeded",
        "deploy": "succeeded",
    }
    assert world.ingest.asked("POST") + world.trainer.asked("POST") == posts
    assert world.registry.moves == [("champion", 1)]
    assert world.serving.deployments["delays"]["generation"] == 1
    steps = await world.steps(run_id)
    assert steps["promote"].outputs is not None
    assert steps["promote"].outputs["moved"] is False
    assert steps["train"].outputs is not None
    assert steps["train"].outputs["version"] == 1


async def test_other_data_makes_everything_anew(world: World) -> None:
    await world.settle(await world.start(main_job()))
    run_id = await world.start(main_job(), {"upload": OTHER_UPLOAD})
    await world.settle(run_id)
    assert set((await world.phases(run_id)).values()) == {"succeeded"}
    assert len(world.ingest.versions["flights"]) == len(world.trainer.jobs) == 2
    assert world.registry.moves == [("champion", 1), ("champion", 2)]


async def test_another_project_reuses_nothing_of_this_one(world: World) -> None:
    await world.settle(await world.start(main_job()))
    run_id = await world.start(main_job(), caller=Caller("red", Role.EDITOR, "eve", "gateway"))
    steps = await world.steps(run_id, "red")
    for _ in range(3):
        await world.once()
        await world.expire()
        steps = await world.steps(run_id, "red")
    assert steps["ingest"].phase == "succeeded"


async def test_what_was_deleted_is_made_again(world: World) -> None:
    await world.settle(await world.start(main_job()))
    world.registry.versions["delays"][0]["gone"] = True
    run_id = await world.start(pipeline_of({"upload": UPLOAD}, ingest=INGEST, train=TRAIN))
    await world.settle(run_id)
    assert await world.phases(run_id) == {"ingest": "reused", "train": "succeeded"}
    assert len(world.trainer.jobs) == 2
    world.ingest.versions["flights"][0]["gone"] = True
    again = await world.start(pipeline_of({"upload": UPLOAD}, ingest=INGEST))
    await world.settle(again)
    assert await world.phases(again) == {"ingest": "succeeded"}


async def test_a_job_without_a_model_is_reused_as_long_as_it_is_there(world: World) -> None:
    train = {**TRAIN, "with": {name: value for name, value in TRAIN["with"].items() if name != "register"}}
    definition = pipeline_of({"upload": UPLOAD}, ingest=INGEST, train=train)
    first = await world.start(definition)
    await world.settle(first)
    outputs = (await world.steps(first))["train"].outputs
    assert outputs is not None
    assert (outputs["model"], outputs["version"], outputs["reference"]) == (None, None, None)
    second = await world.start(definition)
    await world.settle(second)
    assert await world.phases(second) == {"ingest": "reused", "train": "reused"}


async def test_a_dataset_by_its_name_is_pinned_to_the_version_that_it_means(world: World) -> None:
    await world.settle(await world.start(pipeline_of({"upload": UPLOAD}, ingest=INGEST)))
    train = {**TRAIN, "needs": [], "with": {**TRAIN["with"], "dataset": "flights"}}
    run_id = await world.start(pipeline_of(train=train))
    await world.settle(run_id)
    [job] = world.trainer.jobs.values()
    assert job["spec"]["dataset"] == "flights@1"


async def test_a_dataset_that_is_not_ready_is_not_trained_on(world: World) -> None:
    world.ingest.at_once = False
    await world.start(pipeline_of({"upload": UPLOAD}, ingest=INGEST))
    await world.once()
    train = {**TRAIN, "needs": [], "with": {**TRAIN["with"], "dataset": "flights@1"}}
    run_id = await world.start(pipeline_of(train=train))
    await world.once()
    run = await world.run(run_id)
    assert (run.phase, run.message) == ("failed", "Step train failed: flights@1 is pending.")


@pytest.mark.parametrize("there", [True, False])
async def test_without_settings_a_dataset_keeps_its_own(world: World, there: bool) -> None:
    if there:
        world.ingest.settings["flights"] = {"nulls": ["x"]}
    ingest = {**INGEST, "with": {"dataset": "flights", "upload": UPLOAD}}
    run_id = await world.start(pipeline_of(ingest=ingest))
    assert (await world.settle(run_id)).phase == "succeeded"
    assert world.ingest.settings["flights"] == {"nulls": ["x"] if there else [""]}
    world.ingest.settings["flights"] = {"nulls": ["other"]}
    again = await world.start(pipeline_of(ingest=ingest))
    await world.settle(again)
    # Other settings make another version of the same bytes.
    assert await world.phases(again) == {"ingest": "succeeded"}


async def test_settings_that_somebody_changes_meanwhile_are_noticed(world: World) -> None:
    changed = False

    async def meddle(request: object) -> None:
        nonlocal changed
        if not changed and "PUT" in str(request):
            changed = True
            world.ingest.settings["flights"] = {"nulls": ["meddled"]}

    world.ingest.after = meddle
    run_id = await world.start(pipeline_of({"upload": UPLOAD}, ingest=INGEST))
    assert (await world.settle(run_id)).phase == "succeeded"
    step = (await world.steps(run_id))["ingest"]
    assert step.attempt == 2
    assert world.ingest.versions["flights"][1]["settings"] == {"nulls": ["NA"]}
    assert step.outputs is not None
    assert step.outputs["version"] == 2


async def test_independent_steps_are_under_way_at_the_same_time(world: World) -> None:
    world.ingest.at_once = False
    one = {**INGEST, "with": {**INGEST["with"], "dataset": "one"}}
    two = {**INGEST, "with": {**INGEST["with"], "dataset": "two"}}
    both = {"kind": "gate", "needs": ["one", "two"], "with": {"require": ["true"]}}
    run_id = await world.start(pipeline_of({"upload": UPLOAD}, one=one, two=two, both=both))
    async with world.at_work():

        async def both_are_running() -> bool:
            running = await world.phases(run_id) == {"one": "running", "two": "running", "both": "waiting"}
            return running and world.ingest.versions.keys() == {"one", "two"}

        await eventually(both_are_running)
        world.ingest.finish("one", 1)
        world.ingest.finish("two", 1)

        async def over() -> bool:
            return (await world.run(run_id)).phase in FINAL

        await eventually(over)
    steps = await world.steps(run_id)
    one_step, two_step, gate = steps["one"], steps["two"], steps["both"]
    assert one_step.started_at is not None
    assert one_step.finished_at is not None
    assert two_step.started_at is not None
    assert two_step.finished_at is not None
    assert max(one_step.started_at, two_step.started_at) < min(one_step.finished_at, two_step.finished_at)
    assert gate.started_at is not None
    assert gate.started_at >= max(one_step.finished_at, two_step.finished_at)


async def test_a_condition_that_is_false_skips_the_step_and_what_needs_it(world: World) -> None:
    world.expressions.said["parameters.on"] = Verdict(False)
    gate = {"kind": "gate", "with": {"require": ["true"]}}
    run_id = await world.start(
        pipeline_of(
            {"on": False},
            a={**gate, "when": "parameters.on"},
            b={**gate, "needs": ["a"]},
            c={**gate, "needs": ["a"], "if_skipped": "run"},
        )
    )
    assert (await world.settle(run_id)).phase == "succeeded"
    assert await world.phases(run_id) == {"a": "skipped", "b": "skipped", "c": "succeeded"}
    steps = await world.steps(run_id)
    assert (steps["a"].reason, steps["b"].reason) == ("condition", "need-skipped")
    assert steps["a"].message == "`parameters.on` is false (parameters.on = False)"


async def test_an_event_makes_the_step_due_that_awaits_it(world: World) -> None:
    world.ingest.at_once = False
    run_id = await world.start(pipeline_of({"upload": UPLOAD}, ingest=INGEST))
    await world.once()
    assert await world.once() == 0
    world.ingest.finish("flights", 1)
    async with world.engine.begin() as connection:
        for project, subject in (("red", "flights@1"), ("blue", "flights@2"), ("blue", "flights@1")):
            await wake(connection, "ingest", [event_of(project, subject)])
    assert await world.once() == 1
    assert (await world.run(run_id)).phase == "succeeded"


def event_of(project: str, subject: str) -> Event:
    return Event(id="1:1", project=project, kind="x", subject=subject, data={}, at=datetime.now(UTC))


async def test_without_an_event_the_poll_finds_it(world: World) -> None:
    assert timedelta(seconds=2) >= doing.LOOK
    world.ingest.at_once = False
    run_id = await world.start(pipeline_of({"upload": UPLOAD}, ingest=INGEST))
    async with world.at_work():
        await eventually(lambda: bool(world.ingest.versions))
        world.ingest.finish("flights", 1)

        async def over() -> bool:
            return (await world.run(run_id)).phase == "succeeded"

        await eventually(over)


async def test_a_pipeline_that_changes_changes_no_run(world: World) -> None:
    run_id = await world.start(pipeline_of({"upload": UPLOAD}, ingest=INGEST))
    other = await world.start(pipeline_of({"upload": OTHER_UPLOAD}, first=INGEST))
    await world.settle(run_id)
    await world.settle(other)
    assert (await world.run(run_id)).revision == 1
    assert (await world.phases(run_id)).keys() == {"ingest"}
    assert (await world.phases(other)).keys() == {"first"}


async def test_a_deployment_is_done_when_it_serves_what_its_alias_means_now(world: World) -> None:
    await world.settle(await world.start(main_job()))
    world.serving.at_once = False
    run_id = await world.start(main_job(), {"upload": OTHER_UPLOAD})
    for _ in range(8):
        await world.once()
        await world.expire()
    # The alias has moved; the deployment is ready and has not noticed yet.
    assert world.registry.aliases["delays", "champion"] == 2
    assert (await world.phases(run_id))["deploy"] == "running"
    world.serving.finish("delays")
    assert (await world.settle(run_id)).phase == "succeeded"
    outputs = (await world.steps(run_id))["deploy"].outputs
    assert outputs is not None
    assert outputs["serves"] == ["delays@2"]


async def test_ada_is_an_admin_and_her_run_an_editor(world: World) -> None:
    run = await world.run(await world.start(main_job(), caller=ADA))
    assert (run.subject, run.role) == ("ada", Role.EDITOR)
