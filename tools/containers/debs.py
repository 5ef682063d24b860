"""What an engine needs of Debian. Compose v2 and buildx come from a newer Debian, through folders of their own: the
host's sources stay as they are."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

from containers.shell import Cannot, run, say, succeeds

PROGRAMS = {
    "dockerd": "docker.io",
    "docker": "docker-cli",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
}
PLUGINS = ("docker-compose", "docker-buildx")
SUITE = "sid"
MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def programs() -> None:
    """Install what is missing.

    Raises:
        Cannot: this is no Debian, or apt cannot.
    """
    if not (missing := sorted({package for name, package in PROGRAMS.items() if shutil.which(name) is None})):
        return
    if shutil.which("apt-get") is None:
        raise Cannot(f"{', '.join(missing)} are not installed, and there is no apt-get to install them.")
    say(f"installing {', '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    succeeds(["apt-get", "update", "-qq"], environment=environment, seconds=120)
    for package in missing:
        # Where the client is a package of its own; elsewhere it came with the engine.
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        succeeds(command, environment=environment, seconds=300)
    if gone := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise Cannot(f"apt-get did not bring {', '.join(gone)}.")


def plugins(folder: Path, into: Path) -> None:
    """Compose and buildx, where the client looks for them.

    Raises:
        Cannot: the newer Debian does not answer.
    """
    if missing := [name for name in PLUGINS if not (into / name).exists()]:
        say(f"fetching {' and '.join(missing)} from Debian {SUITE}")
        into.mkdir(parents=True, exist_ok=True)
        download(folder, missing)
        for name in missing:
            deb = next(folder.glob(f"{name}_*.deb"))
            run(["dpkg-deb", "--extract", deb, folder / name])
            plugin = folder / name / "usr/libexec/docker/cli-plugins" / name
            plugin.chmod(0o755)
            plugin.replace(into / name)


def download(folder: Path, names: list[str]) -> None:
    """Packages of the newer Debian into the folder, by an apt that knows of nothing else."""
    for part in ("lists/partial", "archives/partial", "state"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n")
    (folder / "apt.conf").write_text(
        f'Dir::State "{folder}/state"; Dir::State::lists "{folder}/lists"; Dir::State::status "/dev/null";\n'
        f'Dir::Cache "{folder}"; Dir::Etc::sourcelist "{folder}/sources.list"; Dir::Etc::sourceparts "-";\n'
        'APT::Sandbox::User "root";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
    run(["apt-get", "update", "-qq"], environment=environment, within=timedelta(minutes=3))
    run(["apt-get", "download", "-qq", *names], environment=environment, within=timedelta(minutes=3), folder=folder)
