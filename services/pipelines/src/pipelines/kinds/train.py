"""`train`: a job on a dataset version, until its model is registered."""

from collections.abc import Mapping
from typing import Any

from kit import errors
from kit.failpoints import failpoint
from pipelines.clients.trainer import Job
from pipelines.domain import kinds
from pipelines.domain.steps import StepFailed
from pipelines.kinds.doing import FIRST_LOOK, LOOK, Doing, Done, Prepared, Working


class Train:
    """The job is found again by its id; before that is known, by the idempotency key."""

    async def prepare(self, doing: Doing, given: kinds.With) -> Prepared:
        assert isinstance(given, kinds.Train)
        name, _, reference = given.dataset.partition("@")
        version = await doing.ask.ingest.version(doing.principal, name, reference or "latest")
        if version.digest is None:
            raise StepFailed("dataset-not-ready", f"{version.reference} is {version.status.phase}.")
        spec = given.spec()
        # `flights` may mean another version tomorrow. Two versions with one digest hold the same rows.
        return Prepared(spec | {"dataset": version.reference}, spec | {"dataset": version.digest})

    async def work(self, doing: Doing) -> Done | Working:
        job_id = doing.step.memo.get("job")
        job = await (self._start(doing) if job_id is None else doing.ask.trainer.job(doing.principal, job_id))
        match job.status.phase:
            case "succeeded":
                return Done(_outputs(job))
            case "failed":
                raise StepFailed(job.status.reason or "failed", f"{job.status.message or 'It failed.'} (job {job.id})")
            case "cancelled":
                raise StepFailed("job-cancelled", f"Job {job.id} was cancelled.")
            case _:
                due_in = FIRST_LOOK if job_id is None else LOOK
                return Working({"job": job.id}, f"trainer:{job.id}", due_in)

    async def cancel(self, doing: Doing) -> None:
        job_id = doing.step.memo.get("job")
        if job_id is None:
            # It may have been started by somebody who could not say so any more. Asked for again with the same key
            # it is that one, or one that is ended at once: none is left that nobody knows.
            try:
                job_id = (await self._start(doing)).id
            except (errors.Unavailable, errors.TooMany, errors.Unauthenticated):
                raise
            except errors.Error:
                return  # refused now, so refused then: there is none
        await doing.ask.trainer.cancel(doing.principal, job_id, key=f"{doing.step.idempotency_key}-cancel")

    async def still_there(self, doing: Doing, outputs: Mapping[str, Any]) -> bool:
        try:
            if outputs["model"] is None:
                return (await doing.ask.trainer.job(doing.principal, outputs["job"])).status.phase == "succeeded"
            found = await doing.ask.registry.version(doing.principal, outputs["model"], outputs["version"])
        except errors.NotFound:
            return False
        return bool(found.digest == outputs["digest"])

    async def _start(self, doing: Doing) -> Job:
        failpoint("pipelines.train.before_post")
        job = await doing.ask.trainer.start(doing.principal, dict(doing.inputs), key=doing.step.idempotency_key)
        failpoint("pipelines.train.after_post")
        return job


def _outputs(job: Job) -> dict[str, Any]:
    made = job.model
    return {
        "job": job.id,
        "metrics": job.metrics or {},
        "model": made.name if made else None,
        "version": made.version if made else None,
        "digest": made.digest if made else None,
        "reference": f"{made.name}@{made.version}" if made else None,
        "dataset": job.dataset,
    }
