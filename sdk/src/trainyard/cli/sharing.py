"""`trainyard secret`, `trainyard quota`, `trainyard usage`."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from trainyard.cli.datasets import Sure
from trainyard.cli.failures import Failed
from trainyard.cli.output import Output, OutputOption, say, show_item, show_json, show_list
from trainyard.cli.session import confirm, connect
from trainyard.sharing_results import Quota

secrets = typer.Typer(no_args_is_help=True, add_completion=False)
quotas = typer.Typer(no_args_is_help=True, add_completion=False)

Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]
OWN = "The project of your key, unless said."


@secrets.command("set")
def set_secret(
    name: str,
    file: Annotated[Path | None, typer.Option("--file", help="Whose content it is; without: what is typed.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set a secret; from a pipe, a file, or typed unseen. A job names it, and its program finds it in
    TRAINYARD_SECRET_NAME."""
    value = _value(file)
    with connect() as client:
        secret = client.secrets.put(name, value)
    show_item(secret, {"secret": secret.name, "version": secret.version, "set": secret.updated_at}, output)


def _value(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text().rstrip("\n")
        except (OSError, ValueError) as exc:
            raise Failed(f"{file} cannot be read: {exc}.") from None
    if not sys.stdin.isatty():
        return sys.stdin.read().rstrip("\n")
    typed: str = typer.prompt("Value", hide_input=True, err=True)
    return typed


@secrets.command("list")
def list_secrets(output: OutputOption = Output.TABLE) -> None:
    """All secrets of the project, without their values."""
    columns = (
        ("name", lambda secret: secret.name),
        ("version", lambda secret: secret.version),
        ("by", lambda secret: secret.subject),
        ("set", lambda secret: secret.updated_at),
    )
    with connect() as client:
        show_list(client.secrets.list(), columns, output, empty="No secrets: trainyard secret set NAME")


@secrets.command("delete")
def delete_secret(name: str, yes: Sure = False) -> None:
    """Forget a secret."""
    confirm(f"Delete secret {name}?", yes)
    with connect() as client:
        client.secrets.delete(name)
    say(f"Deleted {name}.")


@quotas.command("list")
def list_quotas(output: OutputOption = Output.TABLE) -> None:
    """What projects may have, and have."""
    columns = (
        ("project", lambda quota: quota.project),
        *((name, lambda quota, name=name: _of(quota, name)) for name in ("cpu", "memory", "gpu", "jobs")),
        ("core-hours", _spent),
        ("waiting", lambda quota: quota.waiting),
    )
    with connect() as client:
        show_list(client.quotas.list(), columns, output, empty="No project has had a job yet.")


@quotas.command("get")
def get_quota(
    project: Annotated[str | None, typer.Argument(help=OWN)] = None, output: OutputOption = Output.TABLE
) -> None:
    """What a project may have, and has."""
    with connect() as client:
        quota = client.quotas.get(project or str(client.whoami()["project"]))
    _show(quota, output)


@quotas.command("set")
def set_quota(
    project: str,
    cpu: Annotated[float | None, typer.Option(help="Processors.")] = None,
    memory: Annotated[str | None, typer.Option(help="64Gi")] = None,
    gpu: Annotated[int | None, typer.Option()] = None,
    jobs: Annotated[int | None, typer.Option(help="At one time; 0 puts the project on hold.")] = None,
    priority: Annotated[int | None, typer.Option(help="The highest that its jobs may have.")] = None,
    core_hours: Annotated[float | None, typer.Option(help="The budget of a period.")] = None,
    period: Annotated[str, typer.Option(help="day, week or month")] = "month",
    output: OutputOption = Output.TABLE,
) -> None:
    """Set what a project may have: all of it. What is not said is without limit. For operators."""
    budget = None if core_hours is None else {"core_hours": core_hours, "period": period}
    said = {"cpu": cpu, "memory": memory, "gpu": gpu, "jobs": jobs, "priority": priority, "budget": budget}
    with connect() as client:
        quota = client.quotas.put(project, {name: value for name, value in said.items() if value is not None})
    _show(quota, output)


def _show(quota: Quota, output: Output) -> None:
    fields: dict[str, Any] = {"project": quota.project}
    fields |= {name: _of(quota, name) for name in ("cpu", "memory", "gpu", "jobs")}
    fields |= {"highest priority": quota.priority, "core-hours": _spent(quota), "waiting": quota.waiting}
    show_item(quota, fields, output)


def _of(quota: Quota, name: str) -> str:
    limit, used = getattr(quota, name), quota.used.get(name, 0)
    if name == "memory":
        used, limit = f"{used / (1 << 30):.4g} GiB", None if limit is None else f"{limit / (1 << 30):.4g} GiB"
    return f"{used}" if limit is None else f"{used} of {limit}"


def _spent(quota: Quota) -> str:
    budget = quota.budget
    spent = f"{budget.spent:.2f}"
    return spent if budget.core_hours is None else f"{spent} of {budget.core_hours:g} a {budget.period}"


def usage(
    first: Day = None,
    last: Day = None,
    by: Annotated[str, typer.Option(help="day or subject")] = "day",
    project: Annotated[str | None, typer.Option(help=OWN)] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What a project's jobs took: this month, unless said otherwise."""
    with connect() as client:
        found = client.usage(first=first and first.date(), last=last and last.date(), by=by, project=project)
    if output is Output.JSON:
        show_json(found)
        return
    columns = (
        (by, lambda took: took.name),
        ("core-hours", lambda took: f"{took.core_hours:.2f}"),
        ("GiB-hours", lambda took: f"{took.gib_hours:.2f}"),
        ("GPU-hours", lambda took: f"{took.gpu_hours:.2f}"),
        ("attempts", lambda took: took.attempts),
    )
    show_list(found.items, columns, output, empty="Nothing was used.")
    say(f"{found.project}: {found.total.core_hours:.2f} core-hours from {found.first} to {found.last}")
