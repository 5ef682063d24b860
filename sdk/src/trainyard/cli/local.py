"""The suite on this machine: `up`, `down`, `status`. The work is done by the distribution `trainyard-local`."""

import importlib
import importlib.util
from typing import Any

from trainyard.errors import TrainyardError


class NotInstalled(TrainyardError):
    """The suite itself is not part of the client."""


def up() -> None:
    """Start the suite on this machine."""
    _local("up")


def down() -> None:
    """Stop it; all data stays."""
    _local("down")


def status() -> None:
    """What runs, and where."""
    _local("status")


def _local(name: str) -> Any:
    if importlib.util.find_spec("trainyard_local") is None:
        raise NotInstalled(
            "The suite is not installed here, only its client. Install trainyard-local from Trainyard's repository "
            "(`make install`), or set TRAINYARD_URL and TRAINYARD_API_KEY to those of a running suite."
        )
    return getattr(importlib.import_module("trainyard_local.cli"), name)()
