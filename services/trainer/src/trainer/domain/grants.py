"""What a runner is given to do."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from trainer.domain.attempts import TrainingSpec
from trainer.domain.jobs import Pinned


@dataclass(frozen=True)
class Grant:
    """An attempt that a host has, until its fence is an older one."""

    attempt: str
    project: str
    job: str
    number: int
    fence: int
    token: str
    """For the program in the job."""
    subject: str
    """In whose name the inputs are read."""
    dataset: str
    dataset_digest: str
    spec: dict[str, Any]
    traceparent: str | None = None
    """Of the trace that the job belongs to."""

    @property
    def pinned(self) -> Pinned:
        """The dataset version to train on."""
        return Pinned(self.dataset, self.dataset_digest)

    @property
    def training(self) -> TrainingSpec:
        """What to train."""
        return TrainingSpec.from_json(self.spec)

    def to_json(self) -> dict[str, Any]:
        """As the wire has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From the wire, or from what was written down; a newer trainer may say more."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: given for name, given in value.items() if name in known})
