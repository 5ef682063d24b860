"""The suite as a whole: who the caller is in it, how its services are, and who did what."""

import uuid
from collections.abc import Iterable

from fastapi import APIRouter, Request

from gateway.actions import SERVICE
from gateway.api.schemas import EntryOut, Page, StatusOut, WhoamiOut
from gateway.api.state import GrantDep, PartsDep
from kit import audit
from kit.audit import EntryIdInvalid
from kit.callers import CallerDep, Role, requires
from kit.db import Engine
from kit.paging import LARGEST, PageAsked, PageDep, page_of

router = APIRouter(prefix="/v1", tags=["suite"])


@router.get("/whoami")
@requires(Role.VIEWER)
async def whoami(grant: GrantDep) -> WhoamiOut:
    """Who the API key says you are."""
    return WhoamiOut.of(grant)


@router.get("/status")
@requires(Role.VIEWER)
async def get_status(parts: PartsDep) -> StatusOut:
    """Whether each service can do its main work."""
    own = {"ready": parts.ring.known, "keys_current": parts.ring.current}
    return StatusOut(services={**await parts.services.readiness(), SERVICE: own})


@router.get("/audit")
@requires(Role.ADMIN)
async def list_audit(
    request: Request, caller: CallerDep, engine: Engine, parts: PartsDep, page: PageDep
) -> Page[EntryOut]:
    """Who did what in the project, at all services, the newest first.

    503 when one of them is away: a page without it would seem whole.
    """
    before = _id_of(page.after)
    asked = PageAsked(min(page.size, LARGEST - 1), page.after)  # each service is asked for one more than is shown
    async with engine.begin() as connection:
        own = await audit.page(connection, caller.project, before=before, limit=asked.limit)
    found = [_entry(SERVICE, entry.model_dump()) for entry in own]
    # Tokens of this list are tokens of theirs: the id of the last row that was shown.
    token = request.query_params.get("page_token")
    for service, entries in (await parts.services.audit(caller, limit=asked.limit, token=token)).items():
        found += _entries(service, entries)
    # Ids are made of the time, so that they put the rows of all services in one order.
    found.sort(key=lambda entry: entry.id, reverse=True)
    items, following = page_of(found[: asked.limit], asked, key=lambda entry: str(entry.id))
    return Page(items=items, next_page_token=following)


def _id_of(after: str | None) -> uuid.UUID | None:
    try:
        return None if after is None else uuid.UUID(after)
    except ValueError:
        raise EntryIdInvalid("Begin again without a page token.") from None


def _entries(service: str, entries: Iterable[dict[str, object]]) -> Iterable[EntryOut]:
    return (_entry(service, entry) for entry in entries)


def _entry(service: str, entry: dict[str, object]) -> EntryOut:
    return EntryOut.model_validate({**entry, "service": service})
