"""What others are told of a job that has ended: the registry of its model, and all who follow the feed of events."""

from dataclasses import asdict
from typing import Any

from trainer.domain.jobs import Job, Phase, Why
from trainer.domain.leased import Attempt


def manifest_of(job: Job, attempt: Attempt) -> dict[str, Any]:
    """What the registry is told of the job's model."""
    assert attempt.result is not None
    assert attempt.result.model is not None
    model = attempt.result.model
    return {
        # What code of a user has written is looked at, and served, as what a user has sent.
        "formats": [asdict(file) | ({} if job.spec.bundle is None else {"origin": "user"}) for file in model.files],
        "signature": model.signature,
        "task": model.task or _task_of(job),
        "parameters": model.parameters,
        "metrics": attempt.result.metrics,
        "lineage": {
            **_dataset_of(job),
            "job": str(job.id),
            "attempt": attempt.number,
            "code_digest": model.code_digest,
            "environment": model.environment,
        },
        "twin": model.twin or None,
        "input_example": list(model.input_example),
    }


def _task_of(job: Job) -> str:
    assert job.spec.training is not None  # the program of a bundle has said it
    return job.spec.training.task


def _dataset_of(job: Job) -> dict[str, str]:
    return {} if job.pinned is None else {"dataset": job.pinned.reference, "dataset_digest": job.pinned.digest}


def event_of(job: Job, phase: Phase, why: Why, attempt: Attempt | None, model: dict[str, Any] | None) -> dict[str, Any]:
    """The data of the event that says how the job ended."""
    result = None if attempt is None else attempt.result
    return {
        "job": str(job.id),
        "phase": phase,
        "reason": why.reason,
        "message": why.message,
        "dataset": job.spec.dataset if job.pinned is None else job.pinned.reference,
        "dataset_digest": None if job.pinned is None else job.pinned.digest,
        "metrics": {} if result is None or phase is not Phase.SUCCEEDED else result.metrics,
        "model": model,
    }
