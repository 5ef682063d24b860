"""Bundles as the tests need them, and runners that run them."""

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from runners_at_work import Boss, Host

from kit.ids import uuid7
from trainer.domain.bundles import BundleSpec
from trainer.domain.grants import Grant
from trainer.runner import bundles
from trainer.runner.bundles import Wardens


def has_no_sandbox() -> bool:
    """Whether bundles cannot be run here, and nobody requires that they can."""
    try:
        bundles._check_sandbox()
    except bundles.SandboxMissing:
        return os.environ.get("CI_REQUIRE_SANDBOX") != "1"
    return False


NEEDS_SANDBOX = pytest.mark.skipif(has_no_sandbox(), reason="NO SANDBOX: bubblewrap does not start here")


def archive_of(files: Mapping[str, str | bytes]) -> bytes:
    """A tar.gz with these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def digest_of(archive: bytes) -> str:
    return f"sha256:{hashlib.sha256(archive).hexdigest()}"


def bundle_grant(boss: Boss, program: str, *, memory: int = 1 << 30, register: bool = False, **spec: Any) -> Grant:
    """An attempt at a job that runs this program."""
    given = {name: spec.pop(name) for name in ("job", "number", "dataset", "dataset_digest") if name in spec}
    archive = archive_of({"train.py": program, **spec.pop("files", {})})
    boss.bundles[digest_of(archive)] = archive
    document = BundleSpec.from_json({"bundle": digest_of(archive), "entrypoint": "train.py", **spec}).to_json()
    document |= {"resources": {"cpu": 1, "memory": memory, "gpu": 0}, "register": register}
    values: dict[str, Any] = {
        "attempt": str(uuid7()),
        "project": "blue",
        "job": str(uuid7()),
        "number": 1,
        "fence": 1,
        "token": "tya_secret",
        "subject": "ada",
        "dataset": None,
        "dataset_digest": None,
        "spec": document,
    }
    return Grant(**values | given)


def wardens_of(*, sandbox: bool = True, disk: int = 1 << 30, python: Path | None = None) -> Wardens:
    return Wardens(python, sandbox, disk)


__all__ = ["NEEDS_SANDBOX", "Boss", "Host", "archive_of", "bundle_grant", "digest_of", "wardens_of"]
