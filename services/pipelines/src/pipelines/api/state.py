"""What the application hands to its routes."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from pipelines.actions import Compiler


@dataclass(frozen=True)
class Parts:
    """Made once by the composition root."""

    compiler: Compiler


async def _parts(request: Request) -> Parts:
    parts: Parts = request.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]
