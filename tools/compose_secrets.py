"""Write what docker-compose.yml is not given by anybody else: passwords, in a file that only its owner can read.

python tools/compose_secrets.py [FILE]       default: .env beside docker-compose.yml; what is there stays
"""

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVICES = ("INGEST", "REGISTRY", "TRAINER", "SERVING", "PIPELINES", "GATEWAY")
PASSWORDS = ("POSTGRES_PASSWORD", *(f"{service}_DATABASE_PASSWORD" for service in SERVICES), "VALKEY_PASSWORD")
IDENTITIES = {"S3_ACCESS_KEY": 10, "S3_SECRET_KEY": 24}
OURS = 65532
"""The user that all containers run as."""
HEAD = (
    "# Secrets of docker-compose.yml, made by `make secrets`. Lose them, and the data in its volumes cannot be read.\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    file = Path(given[0]) if given else ROOT / ".env"
    known = read(file)
    missing = {name: value for name, value in fresh().items() if not known.get(name)}
    if missing:
        write(file, file.read_text() if file.exists() else HEAD, missing)
    admin_folder(file.parent / "deploy" / "compose" / "admin")
    sys.stdout.write(f"{file}: {len(missing)} made, {len(known)} were there\n")
    return 0


def fresh() -> dict[str, str]:
    """A value for each name. Of letters and digits: they stand in addresses as they are."""
    made = {name: secrets.token_hex(24) for name in PASSWORDS}
    made |= {name: secrets.token_hex(length) for name, length in IDENTITIES.items()}
    # Whoever writes the first admin's key to the host does it as its owner, so that nobody else can read it.
    owner = (OURS, OURS) if os.getuid() == 0 else (os.getuid(), os.getgid())
    return made | {"TRAINYARD_OWNER": f"{owner[0]}:{owner[1]}"}


def read(file: Path) -> dict[str, str]:
    lines = file.read_text().splitlines() if file.exists() else []
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def write(file: Path, text: str, missing: Mapping[str, str]) -> None:
    """All of it or nothing; never readable by others, not even for a moment."""
    half = file.with_name(f"{file.name}.{os.getpid()}")
    body = (
        text + ("" if text.endswith("\n") else "\n") + "".join(f"{name}={value}\n" for name, value in missing.items())
    )
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())
    half.replace(file)


def admin_folder(folder: Path) -> None:
    """Where the first admin's key is written. Docker would make it root's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.getuid() == 0:
        os.chown(folder, OURS, OURS)


if __name__ == "__main__":
    sys.exit(main())
