"""Fetch Swagger UI's own build from npm and keep the five files that the gateway serves.

    python tools/swagger_ui.py

The gateway loads nothing from another host, so its pages are committed. Node is not needed to run, only for this.
"""

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "swagger-ui-dist"
VERSION = "5.35.0"
INTEGRITY = "sha512-U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ=="
FILES = (
    "swagger-ui-bundle.js",
    "swagger-ui-bundle.js.LICENSE.txt",
    "swagger-ui.css",
    "favicon-32x32.png",
    "LICENSE",
    "NOTICE",
)
HERE = Path(__file__).parents[1] / "services" / "gateway" / "src" / "gateway" / "swagger"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=folder, check=True, capture_output=True, text=True
        )
        written = unpack(Path(folder) / packed.stdout.strip(), INTEGRITY, HERE)
    sys.stdout.write(f"{PACKAGE} {VERSION}: {', '.join(written) or 'nothing changed'}\n")
    return 0


def unpack(archive: Path, integrity: str, target: Path) -> list[str]:
    """Write the files into `target`; answers which of them are new or different.

    Raises:
        ValueError: the archive is another one than `integrity` says.
    """
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != integrity:
        raise ValueError(f"{archive.name} is sha512-{digest}, not {integrity}")
    changed = []
    with tarfile.open(archive) as tar:
        for name in FILES:
            member = tar.extractfile(f"package/{name}")
            if member is None:
                raise ValueError(f"{archive.name} has no {name}")
            content, file = member.read(), target / name
            if not file.exists() or file.read_bytes() != content:
                file.write_bytes(content)
                changed.append(name)
    return changed


if __name__ == "__main__":
    sys.exit(main())
