"""Python client of Trainyard.

    from trainyard import Client

    with Client() as client:
        answer = client.predict("flight-delays", [{"carrier": "UA", "origin": "EWR"}])

What is named here is loaded when it is first used: the command line imports this package too, and its `--help` must
not wait for an HTTP client.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainyard.client import Client
    from trainyard.errors import (
        Conflict,
        Forbidden,
        Invalid,
        NotConfigured,
        NotFound,
        ProblemError,
        TooMany,
        TrainyardError,
        Unauthenticated,
        Unavailable,
        Unreachable,
        WaitExpired,
    )

__all__ = (
    "Client",
    "Conflict",
    "Forbidden",
    "Invalid",
    "NotConfigured",
    "NotFound",
    "ProblemError",
    "TooMany",
    "TrainyardError",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "WaitExpired",
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "trainyard.client" if name == "Client" else "trainyard.errors"
    return getattr(importlib.import_module(home), name)
