"""Attestations of model versions: who says that these bytes are that version, so that anybody can check it offline.

An attestation is an in-toto statement (https://in-toto.io/Statement/v1) in a DSSE envelope (the specification's
version 1.0.2), signed with Ed25519: its subjects are the files of the version by SHA-256, and its predicate says the
version's digest, which also covers signature, task and parameters. The registry signs what it registers; whoever has
a key may sign too. Who is to be trusted is in a file of whoever loads models:

    {"policy": "require", "projects": {"lab": "warn"}, "registry": true,
     "keys": [{"kid": "release-2026", "kty": "OKP", "crv": "Ed25519", "x": "…"}]}

`policy` is that of all projects which `projects` does not name: `off`, `warn` or `require`. With `registry` the
registry's own keys count.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc.jwk import OKPKey

from kit import errors, strictjson

PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://trainyard.dev/attestations/model-version/v1"
SIGNATURES = 10
"""Of one envelope, and envelopes of one version."""
LARGEST = 16 << 10
"""Bytes of an envelope, as JSON."""

Envelope = Mapping[str, Any]


class AttestationInvalid(errors.Invalid):
    """What was sent is no attestation, or one of something else."""


class AttestationMissing(errors.Forbidden):
    """Nobody who is trusted has signed this model version."""


class Policy(StrEnum):
    """What is done with a version that nobody trusted has signed."""

    OFF = "off"
    WARN = "warn"
    REQUIRE = "require"


@dataclass(frozen=True)
class Attested:
    """What an attestation speaks of."""

    version: str
    """The digest of the model version."""
    files: Mapping[str, str]
    """The digests of its files, by path."""

    def statement(self) -> dict[str, Any]:
        """As in-toto has it."""
        subjects = [{"name": path, "digest": {"sha256": _hex(digest)}} for path, digest in sorted(self.files.items())]
        predicate = {"digest": self.version}
        return {"_type": STATEMENT, "subject": subjects, "predicateType": PREDICATE, "predicate": predicate}


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def pae(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding, by which no other kind of message can be taken for it."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def sign(attested: Attested, private_jwk: Mapping[str, Any]) -> dict[str, Any]:
    """An envelope, signed with a private key that has a `kid`."""
    key = OKPKey.import_key(dict(private_jwk)).private_key
    assert isinstance(key, Ed25519PrivateKey)
    payload = json.dumps(attested.statement(), sort_keys=True, separators=(",", ":")).encode()
    signature = {"keyid": str(private_jwk["kid"]), "sig": base64.b64encode(key.sign(pae(payload))).decode()}
    return {"payloadType": PAYLOAD, "payload": base64.b64encode(payload).decode(), "signatures": [signature]}


def read(envelope: Envelope) -> tuple[Attested, Sequence[str]]:
    """What an envelope says, and whose key ids it bears. No signature is looked at.

    Raises:
        AttestationInvalid: it is none of a model version.
    """
    payload, signatures = _opened(envelope)
    try:
        statement: Any = strictjson.loads(payload)
        if (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE):
            raise AttestationInvalid("The statement is of another kind.")
        files = {str(it["name"]): f"sha256:{it['digest']['sha256']}" for it in statement["subject"]}
        return Attested(str(statement["predicate"]["digest"]), files), [keyid for keyid, _ in signatures]
    except (errors.Malformed, KeyError, TypeError):
        raise AttestationInvalid("The payload is no in-toto statement about a model version.") from None


def signers(envelope: Envelope, keys: Mapping[str, Ed25519PublicKey]) -> set[str]:
    """The ids of those of the keys that have signed it.

    Raises:
        AttestationInvalid: it is no envelope.
    """
    payload, signatures = _opened(envelope)
    message, found = pae(payload), set()
    for keyid, signature in signatures:
        if (key := keys.get(keyid)) is not None:
            try:
                key.verify(signature, message)
            except InvalidSignature:
                continue
            found.add(keyid)
    return found


def _opened(envelope: Envelope) -> tuple[bytes, list[tuple[str, bytes]]]:
    try:
        if envelope["payloadType"] != PAYLOAD or envelope.keys() != {"payloadType", "payload", "signatures"}:
            raise AttestationInvalid(f"An envelope has a payload of type {PAYLOAD}, and signatures.")
        given = envelope["signatures"]
        if not isinstance(given, list) or not 0 < len(given) <= SIGNATURES:
            raise AttestationInvalid(f"An envelope has 1 to {SIGNATURES} signatures.")
        signatures = [(str(it["keyid"]), base64.b64decode(it["sig"], validate=True)) for it in given]
        return base64.b64decode(envelope["payload"], validate=True), signatures
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error):
        raise AttestationInvalid("This is no DSSE envelope.") from None


@dataclass(frozen=True)
class Trust:
    """Who is believed, and how much that matters."""

    policy: Policy = Policy.OFF
    projects: Mapping[str, Policy] = field(default_factory=dict)
    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None, public: Path) -> Self:
        """Of a trust file, if there is one, and the public keys of the suite's services.

        Raises:
            errors.Unavailable: a file cannot be read, or is none: then nobody can say whom to believe.
        """
        if path is None:
            return cls()
        try:
            document = json.loads(path.read_bytes())
            keys = list(document.get("keys", ()))
            if document.get("registry", True):
                keys += json.loads(public.read_bytes())["registry"]
            projects = {str(name): Policy(it) for name, it in document.get("projects", {}).items()}
            return cls(Policy(document.get("policy", "require")), projects, public_keys(keys))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise errors.Unavailable(f"The trust file {path} cannot be used: {exc}") from None

    def of(self, project: str) -> Policy:
        """What holds for a project."""
        return self.projects.get(project, self.policy)

    def signers(self, attestations: Iterable[Envelope], version: str, file: str) -> set[str]:
        """The ids of the trusted keys that say of this file that it belongs to this version, both by digest."""
        found: set[str] = set()
        for envelope in attestations:
            try:
                attested, _ = read(envelope)
                if attested.version == version and file in attested.files.values():
                    found |= signers(envelope, self.keys)
            except AttestationInvalid:
                continue
        return found


def public_keys(jwks: Iterable[Mapping[str, Any]]) -> dict[str, Ed25519PublicKey]:
    """Ed25519 keys by their ids.

    Raises:
        ValueError, KeyError: one is none, or has no id.
    """
    found: dict[str, Ed25519PublicKey] = {}
    for jwk in jwks:
        key = OKPKey.import_key({name: jwk[name] for name in ("kty", "crv", "x")}).public_key
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"the key {jwk['kid']} is not for Ed25519")
        found[str(jwk["kid"])] = key
    return found
