"""The wire of jobs that run a bundle, as users see it, and a body that is of one kind of job or the other."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from kit.problems import KIND
from kit.waiting import duration_of
from trainer.api.schemas import MAX_SEED, JobIn, RegisterIn, ResourcesIn, Word
from trainer.domain.bundles import MAX_NODES, MAX_PROCESSES, BundleSpec
from trainer.domain.jobs import JobSpec
from trainer.domain.sharing import HIGHEST, LOWEST
from trainer.domain.specs import MAX_RETRIES

Nodes = Annotated[int, Field(ge=1, le=MAX_NODES)]
Argument = Annotated[str, StringConstraints(max_length=1 << 16)]
SecretName = Annotated[str, StringConstraints(min_length=1, max_length=63)]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NodesIn(_In):
    min: Nodes
    max: Nodes


class LogPolicyIn(_In):
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """Text that stands anywhere in a line; `*` in it is anything."""
    action: Literal["fail", "retry", "exclude-node"]


class BundleJobIn(_In):
    kind: Literal["bundle"]
    bundle: Annotated[str, StringConstraints(pattern="^sha256:[0-9a-f]{64}$")]
    """Of an archive that was sent to `PUT /v1/bundles/{digest}` before."""
    entrypoint: Annotated[Word, Field(examples=["train.py"])]
    arguments: Annotated[list[Argument], Field(max_length=1000)] = []
    dataset: Annotated[Word, Field(examples=["flights@3"])] | None = None
    parameters: Annotated[dict[Word, Any], Field(max_length=1000)] = {}
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    nproc: Annotated[int, Field(ge=1, le=MAX_PROCESSES)] = 1
    """Processes on each node, started by torchrun when there are several in all."""
    nodes: Nodes | NodesIn = 1
    deadline: Annotated[str, Field(max_length=12, examples=["1h"])] = "1h"
    retries: Annotated[int, Field(ge=0, le=MAX_RETRIES)] = 2
    resources: ResourcesIn | None = None
    priority: Annotated[int, Field(ge=LOWEST, le=HIGHEST)] = 0
    secrets: Annotated[list[SecretName], Field(max_length=50)] = []
    log_policies: Annotated[list[LogPolicyIn], Field(max_length=20)] = []
    registers: Annotated[RegisterIn | None, Field(alias="register")] = None
    env: Annotated[dict[str, str], Field(max_length=200)] = {}

    def spec(self) -> JobSpec:
        """
        Raises:
            DurationInvalid: the deadline is no time span.
            QuantityInvalid: the memory is no amount.
        """
        return JobSpec(
            dataset=self.dataset,
            bundle=BundleSpec.from_json(self.model_dump(mode="json")),
            retries=self.retries,
            deadline=duration_of(self.deadline, pointer="#/deadline"),
            model=None if self.registers is None else self.registers.model,
            resources=(self.resources or ResourcesIn()).resources(),
            priority=self.priority,
        )


def _kind_of(value: Any) -> str:
    kind = value.get("kind", "estimator") if isinstance(value, dict) else getattr(value, "kind", "estimator")
    return f"{KIND}{kind}"


AnyJobIn = Annotated[
    Annotated[JobIn, Tag(f"{KIND}estimator")] | Annotated[BundleJobIn, Tag(f"{KIND}bundle")], Discriminator(_kind_of)
]
