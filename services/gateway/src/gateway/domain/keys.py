"""API keys: how they are written, and what the platform remembers of them.

    ty_<id, 8 letters and digits>_<secret, 32 letters and digits: 190 bits><checksum, 6 of them>

The checksum lets a scanner tell a leaked key from any other string, and spares us looking up what cannot be one.
Only the SHA-256 of the secret is kept: it is random, so that a slow hash would protect nothing more.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Callable
from dataclasses import dataclass

PREFIX = "ty_"
ID_ALPHABET = string.ascii_lowercase + string.digits
ALPHABET = string.digits + string.ascii_letters
_FORM = re.compile(r"ty_([a-z0-9]{8})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})")


@dataclass(frozen=True)
class ApiKey:
    """A key in the hands of its owner. Never stored, never logged."""

    id: str
    secret: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.id}_{self.secret}{_checksum(self.id, self.secret)}"

    def __repr__(self) -> str:
        return f"ApiKey(id={self.id!r})"

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.secret.encode()).digest()

    def is_of(self, digest: bytes) -> bool:
        """Whether this is the key that `digest` was taken of."""
        return hmac.compare_digest(self.digest, digest)


def make_key(choice: Callable[[str], str] = secrets.choice) -> ApiKey:
    """A new key."""
    return ApiKey("".join(choice(ID_ALPHABET) for _ in range(8)), "".join(choice(ALPHABET) for _ in range(32)))


def read_key(text: str) -> ApiKey | None:
    """The key that is written there, or None: then it is none of ours, or mistyped."""
    found = _FORM.fullmatch(text)
    if found is None or found[3] != _checksum(found[1], found[2]):
        return None
    return ApiKey(found[1], found[2])


def _checksum(id_: str, secret: str) -> str:
    number = zlib.crc32(f"{PREFIX}{id_}_{secret}".encode())
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
