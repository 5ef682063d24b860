"""One volume for each service's private key, and one for the public halves of all: `python keys.py NAME…`.

A service is given its own volume and the public one, and can read nobody else's key. Makes what is missing, changes
nothing that is there; after `python -m kit keys add` or `retire` in a service's folder it publishes anew.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from kit import keys

FOLDER = Path("/volumes")


def main(names: Iterable[str], folder: Path = FOLDER) -> int:
    known: dict[str, object] = {}
    for name in names:
        keys.init(folder / name, [name])
        known |= json.loads((folder / name / "public.json").read_bytes())
    public = folder / "public"
    half = public / ".public.json"
    half.write_text(json.dumps(known, indent=1))
    half.chmod(0o644)
    half.replace(public / "public.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
