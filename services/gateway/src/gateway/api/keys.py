"""API keys of a project: made and revoked by its admins, shown once."""

from dataclasses import replace
from datetime import timedelta

from fastapi import APIRouter, Response

from gateway import actions
from gateway.actions import Wanted
from gateway.api import sealed
from gateway.api.cursors import place_of, text_of
from gateway.api.schemas import KeyIn, KeyOut, NewKeyOut, Page
from gateway.api.state import PartsDep, Rules
from gateway.store.keys import KeyStore
from gateway.store.projects import ProjectStore
from kit import audit, errors
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.paging import PageDep, page_of

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=sealed.Route)


class TooLong(errors.Invalid): ...


@router.post("", status_code=201)
@requires(Role.ADMIN)
async def create_key(
    body: KeyIn, caller: CallerDep, transaction: Transaction, parts: PartsDep, response: Response
) -> NewKeyOut:
    """Make a key. The answer's `key` is the only time that it is shown."""
    project = await ProjectStore(transaction).get(body.project or caller.project, caller)
    wanted = Wanted(
        project=project.name,
        name=body.name,
        subject=body.subject or caller.subject,
        role=body.role,
        scopes=body.scopes,
        lasts=_lasts(body, parts.rules),
    )
    key, record = await actions.make(transaction, wanted, most=parts.rules.most)
    detail = {"name": record.name, "subject": record.subject, "role": record.role, "scopes": record.scopes}
    # In the project where the key opens something: its admins must see who made it.
    await audit.record(transaction, replace(caller, project=project.name), "create", "key", record.id, detail)
    if project.name == caller.project:
        response.headers["Location"] = f"/v1/keys/{record.id}"
    response.headers["Cache-Control"] = "no-store"
    return NewKeyOut.made(key, record)


@router.get("")
@requires(Role.ADMIN)
async def list_keys(caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[KeyOut]:
    """All of the project, revoked ones too, without their secrets."""
    found = await KeyStore(transaction).page(caller.project, after=place_of(page.after), limit=page.limit)
    items, token = page_of(found, page, key=lambda record: text_of(record.created_at, record.id))
    return Page(items=[KeyOut.of(record) for record in items], next_page_token=token)


@router.get("/{key_id}")
@requires(Role.ADMIN)
async def get_key(key_id: str, caller: CallerDep, transaction: Transaction) -> KeyOut:
    return KeyOut.of(await KeyStore(transaction).get(caller.project, key_id))


@router.delete("/{key_id}", status_code=204)
@requires(Role.ADMIN)
async def revoke_key(key_id: str, caller: CallerDep, engine: Engine, parts: PartsDep) -> None:
    """Take a key back. It opens nothing any more: here at once, elsewhere within seconds."""
    async with engine.begin() as connection:
        if await KeyStore(connection).revoke(caller.project, key_id):
            await audit.record(connection, caller, "revoke", "key", key_id, {})
            await actions.tell_all(connection)
    await parts.ring.look_again()


def _lasts(body: KeyIn, rules: Rules) -> timedelta:
    if body.expires_in_days is None:
        return rules.usually
    if body.expires_in_days > rules.longest.days:
        detail = f"A key lasts {rules.longest.days} days at most."
        raise TooLong(detail, errors=[{"pointer": "#/expires_in_days", "detail": detail}])
    return timedelta(days=body.expires_in_days)
