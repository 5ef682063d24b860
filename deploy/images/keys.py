"""One volume for each service's private key, and one for the public halves of all: `python keys.py NAME…`.

A service is given its own volume and the public one, and can read nobody else's key. Makes what is missing, changes
nothing that is there; after `python -m kit keys add` or `retire` in a service's folder it publishes anew.
"""

import json
import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

from kit import keys

FOLDER = Path("/volumes")
SEALING = frozenset({"trainer"})
"""Services that keep secrets of projects."""


def main(names: Iterable[str], folder: Path = FOLDER) -> int:
    known: dict[str, object] = {}
    for name in names:
        keys.init(folder / name, [name])
        if name in SEALING:
            make_secrets_key(folder / name / "secrets.key")
        known |= json.loads((folder / name / "public.json").read_bytes())
    public = folder / "public"
    half = public / ".public.json"
    half.write_text(json.dumps(known, indent=1))
    half.chmod(0o644)
    half.replace(public / "public.json")
    return 0


def make_secrets_key(file: Path) -> None:
    """What secrets of projects are sealed with: made once, and never anew."""
    if file.exists():
        return
    half = file.with_name(f".{file.name}")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(secrets.token_hex(32))
        stream.flush()
        os.fsync(stream.fileno())
    half.replace(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
