"""`trainyard key`, `trainyard project`, `trainyard whoami`."""

from typing import Annotated

import typer

from trainyard.cli.datasets import Sure
from trainyard.cli.output import Output, OutputOption, say, show_item, show_json, show_list
from trainyard.cli.session import confirm, connect

keys = typer.Typer(no_args_is_help=True, add_completion=False)
projects = typer.Typer(no_args_is_help=True, add_completion=False)

Role = Annotated[str, typer.Option("--role", help="viewer, editor or admin")]


def whoami(output: OutputOption = Output.TABLE) -> None:
    """Who the API key says you are."""
    with connect() as client:
        caller = client.whoami()
        show_item(caller, {"url": client.url, **caller}, output)


@keys.command("create")
def create_key(
    name: str,
    role: Role = "viewer",
    scope: Annotated[list[str] | None, typer.Option("--scope", help="predict, read, write, admin; repeatable")] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, help="Until it expires.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Whose key it is.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="Another than your key's.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make an API key. It is shown once."""
    with connect() as client:
        key = client.keys.create(name, role=role, scopes=scope, expires_in_days=days, subject=subject, project=project)
    fields = {
        "id": key.id,
        "key": key.key,
        "role": key.role,
        "scopes": ", ".join(key.scopes),
        "expires": key.expires_at,
    }
    show_item(key, fields, output)
    say("Keep the key now: it is not shown again.")


@keys.command("list")
def list_keys(output: OutputOption = Output.TABLE) -> None:
    """All keys of the project, without their secrets."""
    columns = (
        ("id", lambda key: key.id),
        ("name", lambda key: key.name),
        ("subject", lambda key: key.subject),
        ("role", lambda key: key.role),
        ("scopes", lambda key: ", ".join(key.scopes)),
        ("expires", lambda key: key.expires_at),
        ("revoked", lambda key: key.revoked_at),
    )
    with connect() as client:
        show_list(client.keys.list(), columns, output, empty="No keys.")


@keys.command("revoke")
def revoke_key(id: str, yes: Sure = False) -> None:
    """Take a key back; it opens nothing within seconds."""
    confirm(f"Revoke {id}?", yes)
    with connect() as client:
        client.keys.revoke(id)
    say(f"Revoked {id}.")


@projects.command("create")
def create_project(name: str, output: OutputOption = Output.TABLE) -> None:
    """Make an empty project."""
    with connect() as client:
        project = client.projects.create(name)
    show_item(project, {"project": project.name}, output)


@projects.command("list")
def list_projects(output: OutputOption = Output.TABLE) -> None:
    """The projects that you are a member of."""
    columns = (("name", lambda project: project.name), ("made", lambda project: project.created_at))
    with connect() as client:
        show_list(client.projects.list(), columns, output, empty="No projects.")


@projects.command("get")
def get_project(name: str, output: OutputOption = Output.TABLE) -> None:
    """A project and its members."""
    with connect() as client:
        project = client.projects.get(name)
        members = list(client.projects.members(name))
    if output is Output.JSON:
        show_json({**project.raw, "members": [member.raw for member in members]})
        return
    roles = {member.subject: member.role for member in members}
    show_item(project, {"project": project.name, "made": project.created_at, **roles}, output)


@projects.command("grant")
def grant_role(name: str, subject: str, role: Role = "viewer") -> None:
    """Make somebody a member, or change their role."""
    with connect() as client:
        client.projects.put_member(name, subject, role)
    say(f"{subject} is {role} of {name}.")


@projects.command("remove")
def remove_member(name: str, subject: str, yes: Sure = False) -> None:
    """Take somebody out of a project."""
    confirm(f"Remove {subject} from {name}?", yes)
    with connect() as client:
        client.projects.delete_member(name, subject)
    say(f"Removed {subject} from {name}.")


@projects.command("delete")
def delete_project(name: str, yes: Sure = False) -> None:
    """Delete an empty project."""
    confirm(f"Delete project {name}?", yes)
    with connect() as client:
        client.projects.delete(name)
    say(f"Deleted {name}.")
