"""Named secrets of a project, and how they are sealed.

A sealed value is of its project and name alone: moved to another row, it does not open. The key file has a key of 32
bytes a line, in hexadecimal digits; the last one seals, each of them opens what it has sealed.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kit import errors

LONGEST = 64 << 10
"""Characters of a value."""
_FORM, _ID, _NONCE, _KEY = b"\x01", 8, 12, 32


class SecretNotFound(errors.NotFound): ...


class SecretMissing(errors.Invalid): ...


class SecretsUnavailable(errors.Unavailable): ...


class KeyFileInvalid(ValueError): ...


@dataclass(frozen=True)
class Secret:
    """What is said of one. Its value is said to the attempts of jobs that name it, and to nobody else."""

    name: str
    version: int
    """Counts how often it was set."""
    subject: str
    """Who set it last."""
    created_at: datetime
    updated_at: datetime


class Vault:
    """Seals values and opens them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """The last of the keys seals."""
        self._ciphers = {_id(key): AESGCM(key) for key in keys}
        self._sealing = _id(keys[-1])

    @classmethod
    def read(cls, text: str) -> "Vault":
        """Of the text of a key file.

        Raises:
            KeyFileInvalid: it is none. What is in it is not said.
        """
        try:
            keys = [bytes.fromhex(line) for line in text.split()]
        except ValueError:
            keys = []
        if not keys or any(len(key) != _KEY for key in keys):
            raise KeyFileInvalid("a key file has keys of 64 hexadecimal digits, one a line")
        return cls(keys)

    def seal(self, project: str, name: str, value: str) -> bytes:
        """Made anew each time, so that the same value is never seen to be the same."""
        nonce = os.urandom(_NONCE)
        body = self._ciphers[self._sealing].encrypt(nonce, value.encode(), _bound_to(project, name))
        return _FORM + self._sealing + nonce + body

    def open(self, project: str, name: str, sealed: bytes) -> str:
        """
        Raises:
            SecretsUnavailable: its key is not here, or it is not what was sealed.
        """
        form, key_id, rest = sealed[:1], sealed[1 : 1 + _ID], sealed[1 + _ID :]
        cipher = self._ciphers.get(key_id) if form == _FORM else None
        if cipher is None:
            raise SecretsUnavailable(f"The secret {name} was sealed with a key that is not here: set it again.")
        try:
            return cipher.decrypt(rest[:_NONCE], rest[_NONCE:], _bound_to(project, name)).decode()
        except InvalidTag:
            raise SecretsUnavailable(f"The secret {name} is damaged: set it again.") from None


def _id(key: bytes) -> bytes:
    return hashlib.sha256(b"trainyard secrets " + key).digest()[:_ID]


def _bound_to(project: str, name: str) -> bytes:
    return f"{project}\0{name}".encode()


def missing(names: Sequence[str], known: Mapping[str, object]) -> list[errors.Place]:
    """Where a job names secrets that its project does not have."""
    return [
        {"pointer": f"#/secrets/{place}", "detail": f"there is no secret {name[:63]!r}"}
        for place, name in enumerate(names)
        if name not in known
    ]
