"""What others are told of a job that has ended: the registry of its model, and all who follow the feed of events."""

from dataclasses import asdict
from typing import Any

from trainer.domain.jobs import Job, Phase, Why
from trainer.domain.leased import Attempt


def manifest_of(job: Job, attempt: Attempt) -> dict[str, Any]:
    """What the registry is told of the job's model."""
    assert attempt.result is not None
    assert attempt.result.model is not None
    assert job.pinned is not None
    model = attempt.result.model
    return {
        "formats": [asdict(file) for file in model.files],
        "signature": model.signature,
        "task": job.spec.training.task,
        "parameters": model.parameters,
        "metrics": attempt.result.metrics,
        "lineage": {
            "dataset": job.pinned.reference,
            "dataset_digest": job.pinned.digest,
            "job": str(job.id),
            "attempt": attempt.number,
            "code_digest": model.code_digest,
            "environment": model.environment,
        },
        "twin": model.twin,
        "input_example": list(model.input_example),
    }


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
