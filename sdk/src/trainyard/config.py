"""Where the suite is and who is asking: arguments, then the environment, then the file that `trainyard up` writes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.errors import NotConfigured

NEXT_STEP = (
    "Start the suite on this machine with `trainyard up`, or set TRAINYARD_URL and TRAINYARD_API_KEY "
    "to those of a running one."
)


@dataclass(frozen=True)
class Credentials:
    """A place and a key for it."""

    url: str
    api_key: str = field(repr=False)  # nobody wants it in a traceback


def home_of(environment: Mapping[str, str]) -> Path:
    """The folder of the suite on this machine."""
    return Path(environment.get("TRAINYARD_HOME") or "~/.trainyard").expanduser()


def find_credentials(environment: Mapping[str, str], url: str | None = None, api_key: str | None = None) -> Credentials:
    """The first place that names each wins; a key from the file is never sent to another URL than the file's."""
    wanted = url or environment.get("TRAINYARD_URL")
    key = api_key or environment.get("TRAINYARD_API_KEY")
    if wanted and key:
        return Credentials(wanted, key)
    path = home_of(environment) / "credentials.json"
    kept = _read(path)
    if wanted and kept is not None and wanted.rstrip("/") != kept.url.rstrip("/"):
        raise NotConfigured(f"There is no API key for {wanted}: set TRAINYARD_API_KEY.")
    if kept is None:
        missing = "TRAINYARD_API_KEY is not set" if wanted else "It is not known where the suite is"
        raise NotConfigured(f"{missing}, and {path} does not exist. {NEXT_STEP}")
    return Credentials(wanted or kept.url, key or kept.api_key)


def _read(path: Path) -> Credentials | None:
    try:
        document = json.loads(path.read_text())
        return Credentials(document["url"], document["api_key"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotConfigured(f"{path} cannot be read as credentials: {error!r}.") from error
