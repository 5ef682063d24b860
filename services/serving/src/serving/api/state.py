"""What the application hands to its routes."""

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from serving.actions import Resolver
from serving.api.watching import Watch
from serving.replica.replica import Replica
from serving.replica.table import Table


@dataclass(frozen=True)
class Parts:
    """Made once by the composition root."""

    registry: Resolver
    table: Table
    replica: Replica
    deployments: int
    """That a project may have."""
    batches: int
    """That a project may have under way."""
    predictions: int
    """That a project may have waiting, to be answered later."""
    prediction_bytes: int
    """Of their bodies."""
    watch: Watch = field(default_factory=Watch)


async def _parts(request: Request) -> Parts:
    parts: Parts = request.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]
