"""Write docs/settings.md from the Settings class of every service.

python tools/settings_page.py
"""

import ast
import importlib
import importlib.util
import inspect
import itertools
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from kit.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "settings.md"
SERVICES = ("gateway", "ingest", "trainer", "registry", "serving", "pipelines")
HEAD = """\
<!-- Written by `make docs` from the Settings classes. Do not edit. -->
# Settings

Every knob is an environment variable, read once at the start. Secrets have no default. On one machine
`trainyard up` sets what is required and hands on whatever else is set: `INGEST_WORKERS=4 make up`.

## The suite on one machine, the client and the command line

| variable | default | |
|---|---|---|
| `TRAINYARD_HOME` | `~/.trainyard` | Everything that is kept, and `credentials.json` of the first admin. |
| `TRAINYARD_PORT` | `8080` | The gateway's, on 127.0.0.1. All other ports are chosen free. |
| `TRAINYARD_RECONCILERS` | `0` | With N, services run as `api` and each has N `reconcile` processes of its own. |
| `TRAINYARD_OBJECTS_URL` | a folder of the home | `s3://bucket`: bytes are kept there; `AWS_*` say where it is. |
| `TRAINYARD_URL` | that of the home | Which gateway the client asks. |
| `TRAINYARD_API_KEY` | that of the home | With which key. The home's key is sent to the home's URL alone. |
| `TRAINYARD_OUTPUT` | `table` | `json`: what every command prints without `-o`. |
| `TRAINYARD_FAILPOINTS`, `TRAINYARD_FAILPOINTS_DIR` | | For tests: where to kill a process (`kit.failpoints`). |
"""


def main() -> int:
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")
    return 0


def page() -> str:
    """The whole text."""
    parts = [HEAD, "## Every service\n", "`<SERVICE>_` stands for `GATEWAY_`, `INGEST_` and so on.\n"]
    parts += table(Settings, "<SERVICE>_", set())
    for service in SERVICES:
        if importlib.util.find_spec(f"{service}.settings") is None:
            continue
        settings: type[Settings] = importlib.import_module(f"{service}.settings").Settings
        parts += [f"\n## {service}\n", *table(settings, str(settings.model_config["env_prefix"]), set(_own(Settings)))]
    return "\n".join(parts) + "\n"


def table(settings: type[Settings], prefix: str, known: set[str]) -> Iterator[str]:
    """A row for each field that is not `known` already."""
    said = {name: text for kind in reversed(settings.__mro__) for name, text in _docstrings(kind).items()}
    names = [name for name in settings.model_fields if name not in known]
    yield "| variable | default | |\n|---|---|---|"
    for name in names:
        default, text = _default(settings.model_fields[name]), said.get(name) or _peer(name)
        yield f"| `{prefix}{name.upper()}` | {default} | {text} |"


def _peer(name: str) -> str:
    peer = name.removesuffix("_url")
    return f"Where the {peer}'s API is." if peer in SERVICES else ""


def _own(settings: type[Settings]) -> list[str]:
    return list(settings.model_fields)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Path):
        value = str(value).replace(tempfile.gettempdir(), "$TMPDIR", 1)
    if value is None or value == "":
        return ""
    if isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        return f"`{value}` ({_size(value)})"
    return f"`{value}`"


def _size(value: int) -> str:
    return f"{value >> 30} GiB" if value % (1 << 30) == 0 else f"{value >> 20} MiB"


def _docstrings(kind: type) -> dict[str, str]:
    """The text under each field of a class."""
    if not issubclass(kind, Settings):
        return {}
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    found = {}
    statements = body.body if isinstance(body, ast.ClassDef) else []
    for field, text in itertools.pairwise(statements):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                found[name] = " ".join(said.split())
    return found


if __name__ == "__main__":
    sys.exit(main())
