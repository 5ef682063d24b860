"""What a replica is to serve, and the file in which it remembers what it served last."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.domain.limits import UNLIMITED, Limits
from serving.domain.revisions import Target

FORMAT = 1


class StateUnreadable(Exception):
    """The file is not one that this version of the program wrote."""


@dataclass(frozen=True)
class Desired:
    """One deployment, as a replica has to serve it."""

    project: str
    name: str
    deployment: uuid.UUID
    revision: int
    targets: tuple[Target, ...]
    limits: Limits = UNLIMITED
    is_pinned: bool = False
    traceparent: str | None = field(default=None, compare=False)
    """Of the trace that the revision was made in. Not for the file: it is over when that is read."""

    @property
    def asks(self) -> tuple[int, Limits, bool]:
        """What tells two wishes for the same deployment apart: a revision never changes."""
        return self.revision, self.limits, self.is_pinned

    def to_json(self) -> dict[str, Any]:
        """For the file."""
        return {
            "project": self.project,
            "name": self.name,
            "deployment": str(self.deployment),
            "revision": self.revision,
            "targets": [target.to_json() for target in self.targets],
            "limits": self.limits.to_json(),
            "pinned": self.is_pinned,
        }


def dump(served: Sequence[Desired]) -> bytes:
    """The file's content."""
    return json.dumps({"format": FORMAT, "deployments": [it.to_json() for it in served]}).encode()


def load(content: bytes) -> list[Desired]:
    """
    Raises:
        StateUnreadable: it is not what `dump` writes.
    """
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise StateUnreadable
        return [
            Desired(
                project=it["project"],
                name=it["name"],
                deployment=uuid.UUID(it["deployment"]),
                revision=it["revision"],
                targets=tuple(Target.from_json(target) for target in it["targets"]),
                limits=Limits.from_json(it.get("limits", {})),  # a file of an earlier release has none
                is_pinned=bool(it.get("pinned", False)),
            )
            for it in document["deployments"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise StateUnreadable from error
