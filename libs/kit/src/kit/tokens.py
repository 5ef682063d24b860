"""Internal tokens: one service says to another for whom it asks, signed with its own Ed25519 key, for 60 seconds.

Both sides remember what they did for up to 30 seconds, so that a busy pair of services signs and verifies twice a
minute for a caller, not at every request. The request's id is no claim: it travels as a header.
"""

import base64
import binascii
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from kit import errors, strictjson
from kit.callers import Caller, Role
from kit.remembered import Clock, Remembered

ALGORITHM = "Ed25519"
LIFETIME = 60
"""Seconds that a token is good for; one that claims more is refused."""
REMEMBERED = 30
LEEWAY = 60
"""Seconds that the clocks of two machines may differ by."""
LONGEST = 2048
CLAIMS = {"iss": str, "aud": str, "project": str, "role": str, "sub": str, "iat": int, "nbf": int, "exp": int}


@dataclass(frozen=True)
class PublicKey:
    issuer: str
    """The only one whose tokens this key may have signed."""
    key: OKPKey


class TokenRefused(errors.Unauthenticated): ...


class Signer:
    """Mints the tokens of one service."""

    def __init__(self, issuer: str, private_jwk: Mapping[str, Any], *, clock: Clock = time.time) -> None:
        self.issuer = issuer
        self._kid = str(private_jwk["kid"])
        self._key = OKPKey.import_key(dict(private_jwk))
        self._clock = clock
        self._minted: Remembered[tuple[str, str, Role, str], str] = Remembered(clock)

    def mint(self, audience: str, project: str, role: Role, subject: str) -> str:
        """A token for `audience` that says who asks; one that is at least 30 seconds good."""
        known = self._minted.get((audience, project, role, subject))
        if known is not None:
            return known
        now = int(self._clock())
        claims = {
            "iss": self.issuer,
            "aud": audience,
            "project": project,
            "role": role.value,
            "sub": subject,
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME,
        }
        token = jwt.encode({"alg": ALGORITHM, "kid": self._kid}, claims, self._key, algorithms=[ALGORITHM])
        self._minted.put((audience, project, role, subject), token, until=now + REMEMBERED)
        return token


class Signatures:
    """Reads what one of the suite's services has signed."""

    def __init__(self, keys: Callable[[], Mapping[str, PublicKey]], *, clock: Clock = time.time) -> None:
        """`keys()` gives the public keys by their ids; it is asked again when a key id is not known."""
        self._read = keys
        self._keys = keys()
        self._clock = clock
        self._read_at = clock()

    def _signed(self, token: str, shape: Mapping[str, type]) -> dict[str, Any]:
        """The claims of a token that has exactly these, signed by the issuer that it names. Its time is not looked at.

        Raises:
            TokenRefused: it is nothing of that kind.
        """
        if len(token) > LONGEST:
            raise TokenRefused("The token is too long.")
        parts = token.split(".")
        header = _part(parts[0])
        # Exactly these: what a header may ask for beside them (crit, jwk, jku, zip …) is never ours.
        if len(parts) != 3 or header.keys() != {"alg", "kid", "typ"} or header["alg"] != ALGORITHM:
            raise TokenRefused("The token is of another kind than ours.")
        key = self._key(header["kid"])
        try:
            jws.deserialize_compact(token, key.key, algorithms=[ALGORITHM])
        except (JoseError, ValueError):
            raise TokenRefused("The token's signature is not right.") from None
        claims = _part(parts[1])
        if claims.keys() != shape.keys() or any(type(claims[name]) is not kind for name, kind in shape.items()):
            raise TokenRefused("The token's claims are not ours.")
        if claims["iss"] != key.issuer:
            raise TokenRefused("The token is signed with another's key.")
        return claims

    def _key(self, kid: object) -> PublicKey:
        if not isinstance(kid, str):
            raise TokenRefused("The token is of another kind than ours.")
        now = self._clock()
        # A rotated key shows itself by its id. Once a second, so that nobody makes us read files all day.
        if kid not in self._keys and now - self._read_at >= 1:
            self._keys = self._read()
            self._read_at = now
        if kid not in self._keys:
            raise TokenRefused("The token is signed with a key that is not known.")
        return self._keys[kid]


class Verifier(Signatures):
    """Tells who asks, from tokens that were minted for one service."""

    def __init__(self, audience: str, keys: Callable[[], Mapping[str, PublicKey]], *, clock: Clock = time.time) -> None:
        super().__init__(keys, clock=clock)
        self.audience = audience
        self._verified: Remembered[str, Caller] = Remembered(clock)

    def known(self, token: str) -> Caller | None:
        """Whose token this is, if it was verified a moment ago."""
        return self._verified.get(token)

    def verify(self, token: str) -> Caller:
        """Whose token this is.

        Raises:
            TokenRefused: it is not one of ours, not for us, or not of now.
        """
        known = self.known(token)
        if known is not None:
            return known
        claims = self._signed(token, CLAIMS)
        now = self._clock()
        _check(claims, self.audience, now)
        try:
            caller = Caller(claims["project"], Role(claims["role"]), claims["sub"], claims["iss"])
        except ValueError:
            raise TokenRefused("The token names no role.") from None
        self._verified.put(token, caller, until=min(now + REMEMBERED, claims["exp"] + LEEWAY))
        return caller


def load_signer(path: Path) -> Signer:
    """The signer whose private keys are in `path`; the last of them signs."""
    document = json.loads(path.read_bytes())
    return Signer(document["issuer"], document["keys"][-1])


def load_verifier(path: Path, audience: str) -> Verifier:
    """A verifier of tokens for `audience`, by the public keys in `path`."""
    return Verifier(audience, lambda: read_public_keys(path))


def read_public_keys(path: Path) -> dict[str, PublicKey]:
    """The keys of a public file by their ids."""
    return public_keys(json.loads(path.read_bytes()))


def public_keys(document: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, PublicKey]:
    """The keys of a public file by their ids. See kit.keys for the files."""
    return {
        str(jwk["kid"]): PublicKey(issuer, OKPKey.import_key(dict(jwk)))
        for issuer, jwks in document.items()
        for jwk in jwks
    }


def _check(claims: Mapping[str, Any], audience: str, now: float) -> None:
    if claims["aud"] != audience:
        raise TokenRefused("The token is for another service.")
    if not 0 < claims["exp"] - claims["iat"] <= LIFETIME:
        raise TokenRefused("The token claims too long a life.")
    if now > claims["exp"] + LEEWAY:
        raise TokenRefused("The token has expired.")
    if now < max(claims["nbf"], claims["iat"]) - LEEWAY:
        raise TokenRefused("The token is of the future.")


def _part(encoded: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        document = strictjson.loads(raw)
    except (binascii.Error, ValueError, errors.Malformed):
        raise TokenRefused("The token cannot be read.") from None
    if not isinstance(document, dict):
        raise TokenRefused("The token cannot be read.")
    return document
