"""The wire of pipelines."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from pipelines.domain.pipelines import Pipeline
from pipelines.domain.runs import Phase, Run
from pipelines.domain.steps import Step, StepPhase

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_page_token: str | None


class PipelineOut(BaseModel):
    name: str
    revision: int
    description: str
    parameters: dict[str, Any]
    steps: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self:
        written = pipeline.definition
        return cls(
            name=pipeline.name,
            revision=pipeline.revision,
            description=written.get("description", ""),
            parameters=written.get("parameters", {}),
            steps=written["steps"],
            created_at=pipeline.created_at,
            updated_at=pipeline.updated_at,
        )


class RunIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    parameters: dict[str, Any] = {}


class StatusOut(BaseModel):
    phase: Phase | StepPhase
    reason: str
    message: str


class StepOut(BaseModel):
    name: str
    kind: str
    needs: list[str]
    status: StatusOut
    attempt: int
    outputs: dict[str, Any] | None
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, step: Step) -> Self:
        return cls(
            name=step.spec.name,
            kind=step.spec.kind,
            needs=list(step.spec.needs),
            status=StatusOut(phase=step.phase, reason=step.reason, message=step.message),
            attempt=step.attempt,
            outputs=None if step.outputs is None else dict(step.outputs),
            started_at=step.started_at,
            finished_at=step.finished_at,
        )


class RunBrief(BaseModel):
    """A run in a list."""

    id: uuid.UUID
    pipeline: str
    revision: int
    status: StatusOut
    parameters: dict[str, Any]
    subject: str
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls(**_members(run))


class RunOut(RunBrief):
    """A run with its steps, as they are written in the definition."""

    steps: list[StepOut]

    @classmethod
    def with_steps(cls, run: Run, steps: Sequence[Step]) -> Self:
        return cls(**_members(run), steps=[StepOut.of(step) for step in steps])


def _members(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "pipeline": run.pipeline,
        "revision": run.revision,
        "status": StatusOut(phase=run.phase, reason=run.reason, message=run.message),
        "parameters": dict(run.parameters),
        "subject": run.subject,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
    }
