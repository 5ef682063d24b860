"""Named places where a test can end the process, to see what a crash right there leaves behind.

`failpoint("registry.version.before_commit")` does nothing, unless the environment asks for it:

    TRAINYARD_FAILPOINTS="registry.version.before_commit=kill,ingest.parse=kill"
    TRAINYARD_FAILPOINTS_DIR=/some/folder        # each point fires once, over all processes and restarts
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path


def points_of(environment: Mapping[str, str]) -> dict[str, Path]:
    """The points that are asked for, each with the file that says it has fired."""
    asked = [entry.strip() for entry in environment.get("TRAINYARD_FAILPOINTS", "").split(",") if entry.strip()]
    if not asked:
        return {}
    folder = Path(environment["TRAINYARD_FAILPOINTS_DIR"])
    names = [entry.removesuffix("=kill") for entry in asked if entry.endswith("=kill")]
    if len(names) != len(asked):
        raise ValueError(f"TRAINYARD_FAILPOINTS must be name=kill,…: {asked}")
    return {name: folder / f"{name}.fired" for name in names}


_POINTS = points_of(os.environ)


def failpoint(name: str) -> None:
    """End this process here with SIGKILL, when asked to and not done before."""
    if _POINTS and is_due(name, _POINTS):
        os.kill(os.getpid(), signal.SIGKILL)  # pragma: no cover - a killed process reports no coverage


def is_due(name: str, points: Mapping[str, Path]) -> bool:
    """Whether the point is asked for and fires now. It says so to one process, once."""
    if name not in points:
        return False
    try:
        points[name].touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
