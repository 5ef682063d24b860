"""What a runner does for an attempt at a bundle before its warden starts: fetch and unpack it, and say what it may."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from kit import errors
from kit.clients import Principal
from kit.roles import Role
from trainer.clients.ingest import IngestClient
from trainer.clients.trainer import TrainerClient
from trainer.domain import archives, programs
from trainer.domain.attempts import Shard
from trainer.domain.grants import Grant
from trainer.domain.programs import Python, Told
from trainer.domain.resources import Resources
from trainer.runner.host import Home

SPLITS = {"held_out": "test"}
"""As programs know them."""
PROBE_SECONDS = 60
# Asked of the interpreter itself: it may be another one than ours.
_PROBE = """
import importlib.metadata as m, importlib.util as u, json, platform, sys
versions = {"python": platform.python_version()}
for name in ("torch", "numpy", "scikit-learn", "safetensors", "onnx", "trainyard"):
    try:
        versions[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
found = u.find_spec("trainyard")
places = [] if found is None else [str(p) + "/.." for p in found.submodule_search_locations]
print(json.dumps([[sys.prefix, sys.base_prefix, sys.exec_prefix, *places], versions]))
"""


class BundleDamaged(errors.Corrupt): ...


class SandboxMissing(Exception):
    """Bundles are to run in a sandbox here, and there is none."""


class Wardens:
    """How bundles are run on this host."""

    def __init__(self, python: Path | None = None, sandbox: bool = True, disk: int = 32 << 30) -> None:
        self._executable = str(python or sys.executable)
        self._sandbox = sandbox
        self._disk = disk

    async def python_for(self, grant: Grant) -> Python:
        """
        Raises:
            SandboxMissing: there is no sandbox, or it does not start.
        """
        if self._sandbox:
            await asyncio.to_thread(_check_sandbox)
        return await asyncio.to_thread(ask, self._executable)

    def memory_of(self, grant: Grant, usual: int) -> int:
        """Bytes that it may have."""
        return Resources.from_json(grant.spec.get("resources") or {}).memory_bytes or usual

    def told(
        self,
        grant: Grant,
        home: Home,
        python: Python,
        shards: Sequence[Shard],
        columns: Sequence[Mapping[str, str]],
        url: str,
        memory: int,
        secrets: Mapping[str, str],
    ) -> Told:
        """What the warden is told."""
        checkpoints = home.checkpoints_of(grant)
        checkpoints.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(checkpoints.parent)
        resources = Resources.from_json(grant.spec.get("resources") or {})
        return Told(
            job=grant.job,
            attempt=grant.number,
            url=f"{url.rstrip('/')}/internal/v1/attempts/{grant.attempt}",
            token=grant.token,
            spec=grant.bundle.to_json(),
            python=python,
            sandbox=self._sandbox,
            checkpoints=str(checkpoints),
            memory_bytes=self.memory_of(grant, memory),
            disk_bytes=self._disk,
            cpu=resources.cpu_millis / 1000,
            gpus=resources.gpus,
            registers=bool(grant.spec.get("register")),
            dataset=None if grant.dataset is None else _dataset(grant, shards, columns),
            secrets=secrets,
        )


async def fetch(trainer: TrainerClient, grant: Grant, work: Path) -> None:
    """Make the bundle's folder anew, with its files in it.

    Raises:
        errors.Corrupt: its bytes are not those of its digest.
        errors.Error: the trainer does not give it.
    """
    folder = work / programs.BUNDLE
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    with tempfile.TemporaryFile(dir=work) as file:
        await trainer.fetch_bundle(grant, file)
        file.seek(0)
        found = await asyncio.to_thread(hashlib.file_digest, file, "sha256")
        if f"sha256:{found.hexdigest()}" != grant.bundle.bundle:
            raise BundleDamaged("The bytes of the bundle are not those of its digest.")
        await asyncio.to_thread(archives.unpack, file, folder)


async def columns(ingest: IngestClient, grant: Grant) -> Sequence[Mapping[str, str]]:
    """The columns of the dataset, if there is one."""
    principal, pinned = Principal(grant.project, Role.VIEWER, grant.subject), grant.pinned
    return [] if pinned is None else await ingest.columns(principal, pinned)


def _dataset(grant: Grant, shards: Sequence[Shard], columns: Sequence[Mapping[str, str]]) -> dict[str, object]:
    splits = defaultdict[str, list[str]](list)
    for shard in shards:
        splits[SPLITS.get(shard.split, shard.split)].append(Path(shard.path).name)
    said = [dict(column) for column in columns]
    return {"reference": grant.dataset, "digest": grant.dataset_digest, "columns": said, "splits": dict(splits)}


@lru_cache(maxsize=4)
def ask(executable: str) -> Python:
    """The interpreter about itself."""
    said = subprocess.run(  # noqa: S603 - the interpreter that the operator has named
        [executable, "-c", _PROBE],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=PROBE_SECONDS,
        cwd="/",
        env={"PATH": os.defpath},
    )
    folders, versions = json.loads(said.stdout)
    # A link to an interpreter leads out of its folder, link by link.
    links, path = list[str](), Path(executable)
    while path.is_symlink():
        path = path.parent / path.readlink()
        links.append(str(path.parent.parent))
    return Python(executable, tuple(os.path.normpath(folder) for folder in (*folders, *links)), versions)


def _check_sandbox() -> None:
    try:
        _try_sandbox()
    except FileNotFoundError:
        raise SandboxMissing("This runner has no bubblewrap, and bundles run in a sandbox here.") from None
    except subprocess.SubprocessError as exc:
        said = getattr(exc, "stderr", b"") or b""
        raise SandboxMissing(f"This runner's sandbox does not start: {said.decode(errors='replace')[:500]}") from exc


@lru_cache(maxsize=1)
def _try_sandbox() -> None:
    argv = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "true"]
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=PROBE_SECONDS)  # noqa: S603 - no words of others
