"""What every command needs: a client, and arguments that are names, references, JSON or files."""

import json
import sys
from pathlib import Path
from typing import Any

import typer
import yaml

from trainyard.client import Client


def connect() -> Client:
    """The suite that the environment or `trainyard up` names."""
    return Client()


def reference_of(text: str) -> tuple[str, str]:
    """`flights@3` is (flights, 3); `flights` is (flights, latest)."""
    name, _, version = text.partition("@")
    if not name:
        raise typer.BadParameter(f"{text!r} names nothing; write NAME or NAME@VERSION.")
    return name, version or "latest"


def text_of(argument: str) -> str:
    """What is written, or what the file after an `@` holds (`@-` is standard input)."""
    if not argument.startswith("@"):
        return argument
    return read(Path(argument[1:]))


def read(path: Path) -> str:
    """A file's text; `-` is standard input."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from error


def json_of(argument: str) -> Any:
    """JSON that is written, or that a file after an `@` holds."""
    text = text_of(argument)
    try:
        return json.loads(text)
    except ValueError as error:
        hint = "" if argument.startswith("@") else " To name a file write @FILE."
        raise typer.BadParameter(f"This is not JSON: {error}.{hint}") from error


def document_of(path: Path) -> dict[str, Any]:
    """A mapping from a YAML or JSON file. It may be named with an `@`, as other options want it."""
    path = Path(str(path).removeprefix("@"))
    try:
        value = yaml.safe_load(read(path))
    except yaml.YAMLError as error:
        raise typer.BadParameter(f"{path} is not YAML: {error}") from error
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{path} does not hold a mapping.")
    return value


def parameters_of(pairs: list[str]) -> dict[str, Any]:
    """`name=value` as JSON where it is JSON, else as text."""
    parameters: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE.")
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters


def confirm(question: str, sure: bool) -> None:
    """Ask before something is gone, when there is somebody to ask."""
    if not sure and sys.stdin.isatty():
        typer.confirm(question, abort=True, err=True)
