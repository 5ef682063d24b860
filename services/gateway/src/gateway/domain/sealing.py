"""Answers that hold a new key, kept so that only who asked for it can read them again.

An idempotency key's answer is stored for a day. One that shows an API key must not be readable in the database, where
nothing but digests of keys is kept; it is sealed under the API key that made the request, which is not there either.
"""

import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12


class Unsealable(Exception):
    """It was sealed under another key."""


def seal(content: bytes, secret: str) -> bytes:
    """`content`, for who knows `secret`."""
    nonce = secrets.token_bytes(_NONCE)
    return nonce + _cipher(secret).encrypt(nonce, content, None)


def unseal(sealed: bytes, secret: str) -> bytes:
    """The way back.

    Raises:
        Unsealable: `secret` is not the one.
    """
    try:
        return _cipher(secret).decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
    except (InvalidTag, ValueError):
        raise Unsealable from None


def _cipher(secret: str) -> AESGCM:
    # The secret is random (190 bits), so that one hash makes a key of it; it is not the hash that is stored.
    return AESGCM(hashlib.sha256(b"trainyard sealed answer " + secret.encode()).digest())
