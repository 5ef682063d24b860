"""A version of a model: a manifest under a number, how it is referred to, and who keeps it from being deleted."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kit import attestations, errors
from kit.attestations import AttestationInvalid, Attested, Envelope
from registry.domain.aliases import LATEST, is_alias
from registry.domain.manifests import File, Manifest

SHOWN = 20
"""Users of a version that a refusal names."""


class VersionNotFound(errors.NotFound): ...


class VersionNumberNeeded(errors.Invalid): ...


class VersionInUse(errors.Conflict): ...


class FileNotFound(errors.NotFound): ...


class FileNotUploaded(errors.Invalid): ...


class FileSizeWrong(errors.Invalid): ...


@dataclass(frozen=True, kw_only=True)
class Version:
    id: uuid.UUID
    project: str
    model: str
    number: int
    digest: str
    manifest: Manifest
    created_at: datetime
    attestations: Sequence[Envelope] = ()
    """Each of another key."""

    @property
    def reference(self) -> str:
        return f"{self.model}@{self.number}"

    @property
    def attested(self) -> Attested:
        """What an attestation of this version speaks of."""
        return attested_of(self.digest, self.manifest)

    def with_attestation(self, envelope: Envelope, keyid: str) -> list[Envelope]:
        """Its attestations with this one, in place of what the same key has signed before.

        Raises:
            AttestationInvalid: it is of something else, or of another key, or there are too many.
        """
        said, keyids = attestations.read(envelope)
        if list(keyids) != [keyid]:
            raise AttestationInvalid(f"The envelope has one signature, of key {keyid[:100]!r}.")
        if said != self.attested:
            raise AttestationInvalid(f"The statement does not say the digests of {self.reference} and of its files.")
        others = [it for it in self.attestations if attestations.read(it)[1] != keyids]
        if len(others) >= attestations.SIGNATURES:
            raise AttestationInvalid(f"A version has {attestations.SIGNATURES} attestations at most.")
        return [*others, envelope]

    def file(self, path: str) -> File:
        """
        Raises:
            FileNotFound: the manifest names none.
        """
        found = next((file for file in self.manifest.formats if file.path == path), None)
        if found is None:
            raise FileNotFound(f"Version {self.reference} has no file {path[:100]!r}.")
        return found


def attested_of(digest: str, manifest: Manifest) -> Attested:
    """What an attestation of the version of this digest speaks of."""
    return Attested(digest, {file.path: file.digest for file in manifest.formats})


_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """Which version: one of the three, or none of them for the newest."""

    number: int | None = None
    alias: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        return str(self.number or self.alias or self.digest or LATEST)


def reference_of(text: str) -> Reference:
    """Read `3`, `champion`, `latest` or `sha256:…`.

    Raises:
        VersionNotFound: it is none of these, so nothing has that name.
    """
    if text == LATEST:
        return Reference()
    if _NUMBER.fullmatch(text):
        return Reference(number=int(text))
    if _DIGEST.fullmatch(text):
        return Reference(digest=text)
    if is_alias(text):
        return Reference(alias=text)
    raise VersionNotFound(f"{text[:100]!r} is not a version: say a number, an alias, `latest` or a digest.")


def numbered(text: str) -> Reference:
    """Read `3`, to delete it: another name may be another version's when the request is sent again.

    Raises:
        VersionNumberNeeded: it is no number.
    """
    if _NUMBER.fullmatch(text):
        return Reference(number=int(text))
    raise VersionNumberNeeded(f"{text[:100]!r} may be another version a moment later: say the number of this one.")


def split_reference(text: str) -> tuple[str, Reference]:
    """Read `name`, `name@3`, `name@champion` or `name@sha256:…`."""
    name, _, version = text.partition("@")
    return name, reference_of(version or LATEST)


def users_of(aliases: Sequence[str], holders: Sequence[str]) -> list[str]:
    """Who keeps a version from being deleted, in words."""
    return [*(f"alias {alias}" for alias in aliases), *holders]


def in_use(users: Sequence[str]) -> str:
    """The end of a sentence that names them."""
    more = f" and {len(users) - SHOWN} more" if len(users) > SHOWN else ""
    return f"in use by {', '.join(users[:SHOWN])}{more}"
