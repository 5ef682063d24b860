"""Projects and their members.

A key sees its own project, and an admin's key also those that were made with keys of it. All others are not there.
"""

from dataclasses import replace

from fastapi import APIRouter, Request, Response

from gateway import actions
from gateway.api.schemas import MemberIn, MemberOut, Page, ProjectIn, ProjectName, ProjectOut, Subject
from gateway.api.state import PartsDep
from gateway.domain.projects import Member, keep_the_first, refuse_used
from gateway.store.projects import ProjectStore
from kit import audit, etags, idempotency
from kit.callers import CallerDep, Role, requires
from kit.db import Engine, Transaction
from kit.paging import PageDep, page_of

router = APIRouter(prefix="/v1/projects", tags=["projects"], route_class=idempotency.Route)


@router.post("", status_code=201)
@requires(Role.ADMIN)
async def create_project(
    body: ProjectIn, caller: CallerDep, transaction: Transaction, response: Response
) -> ProjectOut:
    """Make an empty project with the caller as its admin. Keys for it: `POST /v1/keys` with its name as `project`."""
    store = ProjectStore(transaction)
    project = await store.add(body.name, made_by=caller.project)
    await store.put_member(project.name, caller.subject, Role.ADMIN)
    await audit.record(transaction, caller, "create", "project", project.name, {})
    response.headers["Location"] = f"/v1/projects/{project.name}"
    return ProjectOut.of(project)


@router.get("")
@requires(Role.VIEWER)
async def list_projects(caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[ProjectOut]:
    found = await ProjectStore(transaction).page(caller, after=page.after, limit=page.limit)
    items, token = page_of(found, page, key=lambda project: project.name)
    return Page(items=[ProjectOut.of(project) for project in items], next_page_token=token)


@router.get("/{name}")
@requires(Role.VIEWER)
async def get_project(name: str, caller: CallerDep, transaction: Transaction) -> ProjectOut:
    return ProjectOut.of(await ProjectStore(transaction).get(name, caller))


@router.delete("/{name}", status_code=204)
@requires(Role.ADMIN)
async def delete_project(name: str, caller: CallerDep, engine: Engine, parts: PartsDep) -> None:
    """Delete an empty project with its members and keys. 409 while there is anything in it."""
    async with engine.begin() as connection:
        await ProjectStore(connection).get(name, caller)
    keep_the_first(name)
    # No transaction is open here: services may take seconds to answer.
    refuse_used(name, await parts.services.used(caller, name))
    async with engine.begin() as connection:
        await ProjectStore(connection).delete(name)
        await audit.record(connection, caller, "delete", "project", name, {})
        await actions.tell_all(connection)
    await parts.ring.look_again()


@router.get("/{name}/members")
@requires(Role.VIEWER)
async def list_members(name: str, caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[MemberOut]:
    store = ProjectStore(transaction)
    project = await store.get(name, caller)
    found = await store.members(project.name, after=page.after, limit=page.limit)
    items, token = page_of(found, page, key=lambda member: member.subject)
    return Page(items=[MemberOut.of(member) for member in items], next_page_token=token)


@router.get("/{name}/members/{subject}")
@requires(Role.VIEWER)
async def get_member(
    name: str, subject: str, caller: CallerDep, transaction: Transaction, response: Response
) -> MemberOut:
    store = ProjectStore(transaction)
    project = await store.get(name, caller)
    member = await store.member(project.name, subject)
    response.headers["ETag"] = _etag(member)
    return MemberOut.of(member)


@router.put("/{name}/members/{subject}")
@requires(Role.ADMIN)
async def put_member(
    name: ProjectName,
    subject: Subject,
    body: MemberIn,
    caller: CallerDep,
    engine: Engine,
    parts: PartsDep,
    request: Request,
    response: Response,
) -> MemberOut:
    """Add somebody, or change the role of a member (`If-Match`). Their keys follow, and are never more than that."""
    async with engine.begin() as connection:
        store = ProjectStore(connection)
        project = await store.get(name, caller)
        before = await store.find_member(project.name, subject, lock=True)
        if before is not None:
            etags.require_match(request, _etag(before))
        member = await store.put_member(project.name, subject, body.role)
        if before != member:
            there, detail = replace(caller, project=project.name), {"subject": subject, "role": body.role}
            await audit.record(connection, there, "change" if before else "add", "member", project.name, detail)
            await actions.tell_all(connection)
    if before is None:
        response.status_code = 201
    elif before != member:
        await parts.ring.look_again()
    response.headers["ETag"] = _etag(member)
    return MemberOut.of(member)


@router.delete("/{name}/members/{subject}", status_code=204)
@requires(Role.ADMIN)
async def delete_member(
    name: str, subject: str, caller: CallerDep, engine: Engine, parts: PartsDep, request: Request
) -> None:
    """Take somebody out of the project, and revoke their keys in it."""
    async with engine.begin() as connection:
        store = ProjectStore(connection)
        project = await store.get(name, caller)
        before = await store.find_member(project.name, subject, lock=True)
        if before is not None:
            etags.check_match(request, _etag(before))
        await store.delete_member(project.name, subject)
        there = replace(caller, project=project.name)
        await audit.record(connection, there, "remove", "member", project.name, {"subject": subject})
        await actions.tell_all(connection)
    await parts.ring.look_again()


def _etag(member: Member) -> str:
    return etags.etag_of(f"{member.subject}:{member.created_at.isoformat()}:{member.role}")
