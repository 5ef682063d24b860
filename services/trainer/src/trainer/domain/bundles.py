"""A job that runs code of its author: which bundle, what is started in it, and what that is told."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Self

from kit import errors

MAX_BYTES = 64 << 20
"""Of an archive, as it is sent."""
MAX_FILES = 10_000
MAX_UNPACKED = 512 << 20
MAX_PATH, MAX_PART = 1024, 255
MAX_PROCESSES, MAX_NODES = 64, 64
MAX_TEXT = 64 << 10
"""Characters of all arguments, or of all of the environment."""
_ENV = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_OURS = ("TRAINYARD_", "LD_", "PYTHON")
_TORCHRUN = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
_OF_THE_HOST = frozenset({"PATH", "HOME", "TMPDIR"})


class BundleInvalid(errors.Invalid): ...


class BundleNotFound(errors.NotFound): ...


class Action(StrEnum):
    """What is done when a line of the log is one that its author has named."""

    FAIL = "fail"
    RETRY = "retry"
    EXCLUDE_NODE = "exclude-node"


@dataclass(frozen=True)
class LogPolicy:
    """`pattern` is text that stands anywhere in a line; `*` in it is anything."""

    pattern: str
    action: Action

    def matches(self, line: str) -> bool:
        """Whether the line is one of these. The parts are sought one after the other: no line takes long."""
        at = 0
        for part in self.pattern.split("*"):
            found = line.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return True


@dataclass(frozen=True)
class Bundle:
    """An archive of code, as it is kept. The digest is that of its bytes."""

    digest: str
    size: int
    files: int


@dataclass(frozen=True, kw_only=True)
class BundleSpec:
    """What to run: the part of a job that its author wrote."""

    bundle: str
    """The digest of the archive."""
    entrypoint: str
    arguments: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    nproc: int = 1
    """Processes on each node."""
    least: int = 1
    most: int = 1
    """Nodes."""
    secrets: tuple[str, ...] = ()
    log_policies: tuple[LogPolicy, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From the body of `POST /v1/jobs`, a row or a grant; other keys are left alone."""
        nodes = value.get("nodes") or 1
        least, most = (nodes["min"], nodes["max"]) if isinstance(nodes, Mapping) else (nodes, nodes)
        return cls(
            bundle=value["bundle"],
            entrypoint=value["entrypoint"],
            arguments=tuple(value.get("arguments") or ()),
            parameters=dict(value.get("parameters") or {}),
            seed=value.get("seed") or 0,
            nproc=value.get("nproc") or 1,
            least=least,
            most=most,
            secrets=tuple(value.get("secrets") or ()),
            log_policies=tuple(
                LogPolicy(each["pattern"], Action(each["action"])) for each in value.get("log_policies") or ()
            ),
            env=dict(value.get("env") or {}),
        )

    def to_json(self) -> dict[str, Any]:
        """The wire's shape."""
        values = asdict(self)
        del values["least"], values["most"]
        nodes = self.most if self.least == self.most else {"min": self.least, "max": self.most}
        lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        return {"kind": "bundle"} | values | lists | {"nodes": nodes}


def mistakes_of(spec: BundleSpec) -> Iterable[errors.Place]:
    """Where the spec cannot work, whatever is in the bundle."""
    if (why := path_mistake(spec.entrypoint)) is not None:
        yield {"pointer": "#/entrypoint", "detail": why}
    elif not spec.entrypoint.endswith(".py"):
        yield {"pointer": "#/entrypoint", "detail": "must be a Python file of the bundle, such as train.py"}
    if not 1 <= spec.least <= spec.most <= MAX_NODES:
        yield {"pointer": "#/nodes", "detail": f"must be 1 to {MAX_NODES}, and min not above max"}
    if sum(map(len, spec.arguments)) > MAX_TEXT:
        yield {"pointer": "#/arguments", "detail": f"have {MAX_TEXT} characters together at most"}
    if any("\0" in argument for argument in spec.arguments):
        yield {"pointer": "#/arguments", "detail": "must have no NUL"}
    if sum(len(name) + len(value) for name, value in spec.env.items()) > MAX_TEXT:
        yield {"pointer": "#/env", "detail": f"has {MAX_TEXT} characters at most"}
    for name, value in spec.env.items():
        if not _ENV.fullmatch(name) or "\0" in value:
            yield {"pointer": "#/env", "detail": f"{name[:50]!r} is no name, or its value has a NUL"}
        elif name.startswith(_OURS) or name in _TORCHRUN | _OF_THE_HOST:
            yield {"pointer": "#/env", "detail": f"{name!r} is said by the runner alone"}
    for index, policy in enumerate(spec.log_policies):
        if not policy.pattern.strip("*"):
            yield {"pointer": f"#/log_policies/{index}/pattern", "detail": "must have some text beside *"}


def path_mistake(path: str) -> str | None:
    """Why a member of an archive may not have this path; None: it may.

    It becomes a path on hosts of any kind, some of which do not tell cases or compositions of letters apart.
    """
    parts = PurePosixPath(path).parts
    if not path or path.startswith("/") or "\\" in path or re.match("[A-Za-z]:", path):
        return "must be relative, with / between its parts"
    if any(part in (".", "..", "") for part in path.split("/")):
        return "must have no '.', '..' or empty parts"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "must be UTF-8"
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in path):
        return "must have no control characters"
    if len(encoded) > MAX_PATH or any(len(part.encode()) > MAX_PART for part in parts):
        return f"has {MAX_PATH} bytes at most, and each part {MAX_PART}"
    return None


def folded(path: str) -> str:
    """What two paths have in common that some disk takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
