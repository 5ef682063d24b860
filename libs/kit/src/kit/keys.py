"""Key files for internal tokens: a private one for each service, and one that makes all public halves known.

    D/<name>.private.json   {"issuer": name, "keys": [JWK, …]}   mode 0600; the last one signs
    D/public.json           {name: [JWK, …], …}                  mounted by every service

A rotation: `add` a key (verifiers read the public file anew when they meet its id), restart the service, so that it
signs with it, and `retire` the older one a minute later.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from joserfc.jwk import OKPKey

ACTIVE = 2
"""Keys that a service may have at one time: the one that signs, and the one before or after it."""


def init(folder: Path, names: Iterable[str]) -> list[str]:
    """Make a key for each service that has none. Says which ones were made; calling it again changes nothing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = [name for name in names if not _private(folder, name).exists()]
    for name in made:
        _write_private(folder, name, [_generate(name)])
    publish(folder)
    return made


def add(folder: Path, name: str) -> None:
    """Give a service a further key, which signs from its next start on."""
    keys = _keys(folder, name)
    if len(keys) >= ACTIVE:
        raise ValueError(f"{name} has {len(keys)} keys already: retire one first")
    _write_private(folder, name, [*keys, _generate(name)])
    publish(folder)


def retire(folder: Path, name: str) -> None:
    """Forget the older key of a service: its tokens are refused from now on."""
    keys = _keys(folder, name)
    if len(keys) < ACTIVE:
        raise ValueError(f"{name} has one key only: add one first")
    _write_private(folder, name, keys[1:])
    publish(folder)


def publish(folder: Path) -> None:
    """Write the public halves of all private files in the folder."""
    document = {
        name: [_public(jwk) for jwk in _keys(folder, name)]
        for name in sorted(path.name.removesuffix(".private.json") for path in folder.glob("*.private.json"))
    }
    _replace(folder / "public.json", document, mode=0o644)


def private_document(name: str) -> dict[str, Any]:
    """What the private file of a service holds at first."""
    return {"issuer": name, "keys": [_generate(name)]}


def public_halves(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the keys in a private file."""
    return [_public(jwk) for jwk in document["keys"]]


def _generate(name: str) -> dict[str, Any]:
    key = OKPKey.generate_key("Ed25519")
    return {**key.as_dict(private=True), "kid": f"{name}-{key.thumbprint()[:16]}"}


def _public(jwk: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name != "d"}


def _private(folder: Path, name: str) -> Path:
    return folder / f"{name}.private.json"


def _keys(folder: Path, name: str) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = json.loads(_private(folder, name).read_bytes())["keys"]
    return keys


def _write_private(folder: Path, name: str, keys: list[dict[str, Any]]) -> None:
    _replace(_private(folder, name), {"issuer": name, "keys": keys}, mode=0o600)


def _replace(path: Path, document: object, *, mode: int) -> None:
    """All of the new file or all of the old one, also after a crash; never readable by more than `mode` says."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(document, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, mode)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
