"""Jobs and attempts as the tests need them: what is not said is ordinary."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from kit.ids import uuid7
from trainer.domain.attempts import AttemptResult, Estimator, ModelOutput, Outcome, OutputFile, TrainingSpec
from trainer.domain.jobs import Job, JobSpec
from trainer.domain.leased import Attempt, AttemptPhase
from trainer.store.jobs import JobStore

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
TREE = Estimator("sklearn.tree.DecisionTreeClassifier", {"max_depth": 3})
DIGEST = "sha256:" + "d" * 64


def spec_of(**given: Any) -> JobSpec:
    training: dict[str, Any] = {"task": "classification", "target": "late", "estimator": TREE}
    for name in set(given) & set(TrainingSpec.__dataclass_fields__):
        training[name] = given.pop(name)
    values: dict[str, Any] = {"dataset": "flights@3", "training": TrainingSpec(**training), "model": "delays"}
    return JobSpec(**values | given)


def job_of(*, spec: JobSpec | None = None, **given: Any) -> Job:
    values: dict[str, Any] = {
        "id": uuid7(),
        "project": "blue",
        "subject": "ada",
        "spec": spec or spec_of(),
        "created_at": NOW,
    }
    return Job(**values | given)


def attempt_of(job: Job | None = None, *, running: bool = False, **given: Any) -> Attempt:
    job = job or job_of()
    values: dict[str, Any] = {"id": uuid7(), "project": job.project, "job_id": job.id, "number": 1}
    if running:
        values |= {
            "phase": AttemptPhase.RUNNING,
            "host": "h1",
            "fence": 1,
            "lease_until": NOW + timedelta(seconds=20),
            "started_at": NOW,
        }
    return Attempt(**values | given)


def result_of(files: Sequence[tuple[str, str, str, int]] = (), **given: Any) -> AttemptResult:
    model = ModelOutput(
        files=tuple(OutputFile(*file) for file in files),
        signature={"inputs": []},
        twin={"kept": False, "reason": "none", "tolerance": 1e-5, "max_difference": None},
        parameters={"seed": 0},
        input_example=({"hour": 3},),
        environment={"python": "3.11"},
        code_digest="sha256:" + "c" * 64,
    )
    values: dict[str, Any] = {
        "outcome": Outcome.SUCCEEDED,
        "metrics": {"roc_auc": 0.75},
        "rows": {"train": 10},
        "model": model,
    }
    return AttemptResult(**values | given)


async def add_job(engine: AsyncEngine, *, project: str = "blue", **given: Any) -> Job:
    async with engine.begin() as connection:
        return await JobStore(connection).add(uuid7(), project=project, subject="ada", spec=spec_of(**given))


def some_id() -> uuid.UUID:
    return uuid7()
