"""What the application hands to its routes."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from ingest.actions import Assemblies, Uploads
from ingest.store.pages import Pages
from kit.blobs import BlobStore


@dataclass(frozen=True)
class Parts:
    """Made once by the composition root."""

    blobs: BlobStore
    uploads: Uploads
    assemblies: Assemblies
    pages: Pages


async def _parts(request: Request) -> Parts:
    parts: Parts = request.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]
