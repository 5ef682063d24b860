"""What pipelines, a runner and users need of the trainer, by their own clients, with ingest and the registry beside."""

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flights import JOB, make_flights
from houses import ADA, EVE, PATIENCE, House

from kit import errors
from kit.events import START
from kit.testing import eventually
from pipelines.clients.trainer import Job
from pipelines.clients.trainer import TrainerClient as PipelinesTrainer
from registry.testing import manifest_of
from trainer.clients.trainer import TrainerClient as RunnerTrainer
from trainer.domain.attempts import AttemptResult, ModelOutput, Outcome, OutputFile
from trainer.domain.grants import Grant
from trainyard import results

NOW = timedelta(0)
MODEL = b"the bytes of a model"


@pytest.fixture(autouse=True)
async def _services(house: House) -> None:
    await house.start("ingest", "trainer", loops=True)
    await house.start("registry")
    await make_flights(await house.user("ingest"))


@pytest.fixture
async def pipelines(house: House) -> PipelinesTrainer:
    return PipelinesTrainer(await house.ask("pipelines", "trainer"))


@pytest.fixture
async def runner(house: House) -> RunnerTrainer:
    return RunnerTrainer(await house.ask("trainer", "trainer"), host="host-1")


async def lease(runner: RunnerTrainer) -> Grant:
    async def granted() -> Sequence[Grant]:
        return await runner.lease(1, [], wait=timedelta(seconds=1))

    (grant,) = await eventually(granted, PATIENCE)
    return grant


async def phase_is(pipelines: PipelinesTrainer, job: Job, phase: str) -> Job:
    async def read() -> Job | None:
        found = await pipelines.job(ADA, job.id)
        return found if found.status.phase == phase else None

    found = await eventually(read, PATIENCE)
    assert found is not None
    return found


def result_of(path: Path) -> AttemptResult:
    path.write_bytes(MODEL)
    digest = f"sha256:{hashlib.sha256(MODEL).hexdigest()}"
    manifest = manifest_of(MODEL)
    model = ModelOutput(
        files=(OutputFile("skops", "model.skops", digest, len(MODEL)),),
        signature=manifest["signature"],
        twin=manifest["twin"],
        parameters=manifest["parameters"],
        input_example=tuple(manifest["input_example"]),
        environment=manifest["lineage"]["environment"],
        code_digest=manifest["lineage"]["code_digest"],
    )
    rows = {"train": 40, "held_out": 20}
    return AttemptResult(Outcome.SUCCEEDED, metrics={"roc_auc": 0.736}, rows=rows, model=model)


async def test_a_job_goes_from_pipelines_by_a_runner_to_the_registry(
    house: House, pipelines: PipelinesTrainer, runner: RunnerTrainer, tmp_path: Path
) -> None:
    job = await pipelines.start(ADA, JOB, key="step-1")
    assert (await pipelines.start(ADA, JOB, key="step-1")).id == job.id
    grant = await lease(runner)
    assert (grant.job, grant.project, grant.dataset, grant.subject) == (job.id, "blue", "flights@1", "ada")
    assert grant.training.target == "late"
    held = grant
    (grant,) = await eventually(lambda: runner.lease(0, [], wait=NOW), PATIENCE)  # what it forgot that it had
    assert (grant.attempt, grant.fence > held.fence) == (held.attempt, True)
    with pytest.raises(errors.Conflict):
        await runner.beat(held)
    assert await runner.beat(grant) is False
    line = {"number": 1, "at": datetime.now(UTC).isoformat(), "level": "info", "message": "fitting"}
    await runner.lines(grant, [line])
    result = result_of(tmp_path / "model.skops")
    assert result.model is not None
    for file in result.model.files:
        await runner.put_output(grant, file, tmp_path / file.path)
    await runner.finish(grant, exit_code=0, result=result.to_json(), failure=None)

    done = await phase_is(pipelines, job, "succeeded")
    assert done.model is not None
    assert (done.dataset, done.model.name, done.model.version) == ("flights@1", "flight-delays", 1)
    assert done.metrics == {"roc_auc": 0.736}
    registered = (await (await house.user("registry")).get("/v1/models/flight-delays/versions/1")).json()
    assert registered["digest"] == done.model.digest
    assert registered["lineage"]["job"] == job.id
    with pytest.raises((errors.Conflict, errors.NotFound)):
        await runner.beat(grant)

    told = [(event.kind, event.subject) for event in (await pipelines.service.events(START, wait=NOW)).events]
    assert told == [("job.succeeded", job.id)]
    await users_read_all_of_it(house, job.id)


async def users_read_all_of_it(house: House, job: str) -> None:
    user = await house.user("trainer")
    read = results.Job.of((await user.get(f"/v1/jobs/{job}")).json())
    assert (read.id, read.phase, read.target, read.attempt) == (job, "succeeded", "late", 1)
    assert read.model == results.RegisteredModel.of(read.raw["model"])
    assert read.finished_at is not None
    lines = [results.LogLine.of(it) for it in (await user.get(f"/v1/jobs/{job}/logs")).json()["items"]]
    assert "fitting" in [line.message for line in lines]
    assert (await user.get(f"/v1/jobs/{job}/metrics")).status_code == 200
    assert [it["id"] for it in (await user.get("/v1/jobs")).json()["items"]] == [job]
    assert (await (await house.user("trainer", EVE)).get(f"/v1/jobs/{job}")).status_code == 404


async def test_a_failure_and_what_to_do_about_it_are_told(pipelines: PipelinesTrainer, runner: RunnerTrainer) -> None:
    job = await pipelines.start(ADA, {**JOB, "retries": 0}, key="step-1")
    grant = await lease(runner)
    failed = AttemptResult(Outcome.USER_ERROR, message="The target has one value only.", hint="Choose another target.")
    await runner.finish(grant, exit_code=1, result=failed.to_json(), failure=None)
    done = await phase_is(pipelines, job, "failed")
    assert done.status.message == "The target has one value only."


async def test_a_cancel_reaches_the_runner(pipelines: PipelinesTrainer, runner: RunnerTrainer) -> None:
    job = await pipelines.start(ADA, JOB, key="step-1")
    grant = await lease(runner)
    await pipelines.cancel(ADA, job.id, key="step-1-cancel")

    async def told() -> bool:
        return await runner.beat(grant)

    await eventually(told, PATIENCE)
    await runner.finish(grant, exit_code=-15, result=None, failure=None)
    await phase_is(pipelines, job, "cancelled")
    await pipelines.cancel(ADA, job.id, key="step-1-cancel-again")  # of what has ended
    await pipelines.cancel(ADA, str(uuid.uuid4()), key="another")  # of what is not there


async def test_what_cannot_work_is_refused_with_its_place(pipelines: PipelinesTrainer) -> None:
    with pytest.raises(errors.Invalid) as refused:
        await pipelines.start(ADA, {**JOB, "estimator": {"class": "os.system"}}, key="step-1")
    assert refused.value.errors
    with pytest.raises(errors.NotFound):
        await pipelines.job(ADA, str(uuid.uuid4()))
