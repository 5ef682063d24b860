"""What a request does that needs more than one store: registrations, moves of aliases, and every end.

Whoever changes a model, a version or an alias locks the model's row first, so that they take turns and never wait for
each other in a circle. A hold locks the version's row alone.
"""

from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from kit import audit, blobs, errors, events, holds
from kit.attestations import Envelope, sign
from kit.blobs import Blob, BlobStore
from kit.callers import Caller
from registry.domain.aliases import Alias, AliasTargetUnknown
from registry.domain.manifests import File, Manifest, check_size, version_digest
from registry.domain.models import Model, ModelInUse
from registry.domain.versions import (
    FileNotUploaded,
    FileSizeWrong,
    Reference,
    Version,
    VersionInUse,
    attested_of,
    in_use,
    split_reference,
    users_of,
)
from registry.store.aliases import AliasStore
from registry.store.models import ModelStore
from registry.store.versions import VersionStore

NOUN = "model-version"
SERVICE = "registry"
BATCH = 50
"""Versions of a model that are read at one time: a manifest may have half a megabyte."""


class DigestMismatch(errors.Invalid): ...


class NounUnknown(errors.NotFound): ...


async def take_in(store: BlobStore, project: str, digest: str, chunks: AsyncIterable[bytes], limit: int) -> Blob:
    """Store a stream that is to have this digest. No row names it yet.

    Raises:
        DigestMismatch: it has another one; nothing of it is kept.
        errors.TooLarge: more came than is taken.
    """
    staged = await store.stage(chunks, limit)
    if staged.digest != digest:
        await store.discard(staged)
        raise DigestMismatch(f"The body's digest is {staged.digest}, not {digest}.")
    return await store.publish(project, staged)


async def create_model(connection: AsyncConnection, caller: Caller, name: str, description: str) -> Model:
    """
    Raises:
        ModelExists: the project has one of that name.
    """
    model = await ModelStore(connection).add(caller.project, name, description)
    await audit.record(connection, caller, "create", "model", name, {})
    return model


@dataclass(frozen=True)
class Registered:
    """A version, and whether this request made it."""

    version: Version
    new: bool


async def register(
    connection: AsyncConnection, caller: Caller, name: str, manifest: Manifest, key: Mapping[str, Any]
) -> Registered:
    """The version of this manifest's digest: the one that is there, or a new one. Makes the model if there is none.

    A new one is attested with `key`, a private JWK of this service.

    Raises:
        FileNotUploaded: bytes that the manifest names are not here.
        FileSizeWrong: they are, and have another size.
        BlobCollected: they are just being collected.
        ManifestTooLarge: it has more bytes than a manifest may have.
    """
    check_size(manifest)
    model, made = await ModelStore(connection).ensure(caller.project, name)
    digest, store = version_digest(manifest), VersionStore(connection)
    if (same := await store.find(model, Reference(digest=digest))) is not None:
        return Registered(same, new=False)
    if made:
        await audit.record(connection, caller, "create", "model", name, {})
    version = await store.add(model, digest, manifest, [sign(attested_of(digest, manifest), key)])
    for index, file in enumerate(manifest.formats):
        await _link(connection, version, file, index)
    await audit.record(connection, caller, "create", NOUN, version.reference, {"digest": digest})
    await _say(connection, "model.version.registered", version)
    return Registered(version, new=True)


async def attest(
    connection: AsyncConnection, caller: Caller, name: str, reference: Reference, keyid: str, envelope: Envelope
) -> Version:
    """The version with this attestation. The same again changes nothing.

    Raises:
        VersionNotFound: there is no such version.
        AttestationInvalid: it is not one of this version, with this key.
    """
    store = VersionStore(connection)
    version = await store.get(caller.project, name, reference, lock=True)
    wanted = version.with_attestation(envelope, keyid)
    if wanted == list(version.attestations):
        return version
    attested = await store.attest(version, wanted)
    await audit.record(connection, caller, "attest", NOUN, version.reference, {"key": keyid})
    await _say(connection, "model.version.attested", attested)
    return attested


async def _link(connection: AsyncConnection, version: Version, file: File, index: int) -> None:
    """Keep a file's bytes for as long as the version is there: it is seen only if they are."""
    try:
        await blobs.link(connection, version.project, file.digest, owner_of(version))
    except blobs.BlobNotFound:
        raise not_uploaded(file, index) from None
    check_file_size(file, await blobs.find(connection, version.project, file.digest), index)


def not_uploaded(file: File, index: int) -> FileNotUploaded:
    """What is said of a file, the manifest's so-manyth, whose bytes are not here."""
    detail = f"There are no bytes of {file.path}: upload them first."
    return FileNotUploaded(detail, errors=[{"pointer": f"#/formats/{index}/digest", "detail": "is not here"}])


def check_file_size(file: File, blob: Blob | None, index: int) -> None:
    """
    Raises:
        FileSizeWrong: the bytes are fewer or more than the manifest says.
    """
    if blob is None or blob.size != file.size:
        detail = f"{file.path} has another size than the manifest says."
        place = f"#/formats/{index}/size"
        raise FileSizeWrong(detail, errors=[{"pointer": place, "detail": "is not the size of the bytes"}])


async def lock_alias(connection: AsyncConnection, project: str, name: str, alias: str) -> tuple[Model, Alias | None]:
    """The model and, if there is one, the alias: they stay as they are until this transaction ends.

    Raises:
        ModelNotFound: there is no such model.
    """
    model = await ModelStore(connection).get(project, name, lock=True)
    return model, await AliasStore(connection).find(model, alias)


async def point_alias(
    connection: AsyncConnection, caller: Caller, model: Model, alias: str, *, seen: Alias | None, number: int
) -> Alias:
    """Point an alias, `seen` with its model locked, at a version. Where it points already nothing happens.

    Raises:
        AliasTargetUnknown: the model has no such version.
    """
    if seen is not None and seen.target.version == number:
        return seen
    version = await VersionStore(connection).find(model, Reference(number=number))
    if version is None:
        detail = f"There is no version {number} of {model.name}."
        raise AliasTargetUnknown(detail, errors=[{"pointer": "#/version", "detail": "is not a version of the model"}])
    store = AliasStore(connection)
    moved = await (store.add if seen is None else store.move)(model, alias, version)
    origin = seen.target if seen else None
    await store.note(caller, model.name, alias, origin=origin, target=moved.target)
    said = {"from": origin and origin.version, "to": moved.target.version}
    await audit.record(connection, caller, "update" if seen else "create", "model-alias", moved.reference, said)
    await _say_alias(connection, "model.alias.moved", moved)
    return moved


async def delete_alias(connection: AsyncConnection, caller: Caller, model: Model, alias: Alias) -> None:
    """Delete an alias that was seen with its model locked. The ledger keeps its lines, and gets one more."""
    store = AliasStore(connection)
    await store.delete(model, alias.name)
    await store.note(caller, model.name, alias.name, origin=alias.target, target=None)
    await audit.record(connection, caller, "delete", "model-alias", alias.reference, {"from": alias.target.version})
    await _say_alias(connection, "model.alias.deleted", alias)


async def delete_version(connection: AsyncConnection, caller: Caller, name: str, reference: Reference) -> None:
    """
    Raises:
        VersionInUse: an alias points at it, or somebody holds it.
        VersionNotFound: there is none.
        ModelNotFound: there is no such model.
    """
    await ModelStore(connection).get(caller.project, name, lock=True)
    version = await VersionStore(connection).get(caller.project, name, reference, lock=True)
    if users := await _users(connection, version):
        raise VersionInUse(f"Version {version.reference} is {in_use(users)}.", used_by=users)
    await _drop(connection, version)
    await audit.record(connection, caller, "delete", NOUN, version.reference, {"digest": version.digest})


async def delete_model(connection: AsyncConnection, caller: Caller, name: str) -> None:
    """Delete a model with all its versions, or nothing of it.

    Raises:
        ModelInUse: an alias points at one of its versions, or somebody holds one.
        ModelNotFound: there is no such model.
    """
    model = await ModelStore(connection).get(caller.project, name, lock=True)
    store, before, count = VersionStore(connection), None, 0
    while versions := await store.page(caller.project, name, before=before, limit=BATCH, lock=True):
        for version in versions:
            if users := await _users(connection, version):
                raise ModelInUse(f"Version {version.reference} is {in_use(users)}.", used_by=users)
            await _drop(connection, version)
        before, count = versions[-1].number, count + len(versions)
    await ModelStore(connection).delete(model)
    await audit.record(connection, caller, "delete", "model", name, {"versions": count})


async def find_held(connection: AsyncConnection, project: str, noun: str, reference: str) -> str:
    """The version that somebody wants to hold (`flight-delays@champion` too), locked: for kit.holds.

    Raises:
        NounUnknown: nothing of that kind is held here.
        VersionNotFound: there is none.
    """
    if noun != NOUN:
        raise NounUnknown(f"What is held here is a {NOUN}.")
    name, wanted = split_reference(reference)
    return (await VersionStore(connection).get(project, name, wanted, lock=True)).reference


async def _users(connection: AsyncConnection, version: Version) -> list[str]:
    names = await AliasStore(connection).names_of(version)
    return users_of(names, await holds.holders(connection, version.project, NOUN, version.reference))


async def _drop(connection: AsyncConnection, version: Version) -> None:
    await VersionStore(connection).delete(version)
    await blobs.unlink(connection, version.project, owner_of(version))
    await _say(connection, "model.version.deleted", version)


async def _say(connection: AsyncConnection, kind: str, version: Version) -> None:
    data = {"model": version.model, "version": version.number, "digest": version.digest}
    await events.emit(connection, version.project, kind, version.reference, data)


async def _say_alias(connection: AsyncConnection, kind: str, alias: Alias) -> None:
    target = {"version": alias.target.version, "digest": alias.target.digest}
    data = {"model": alias.model, "alias": alias.name, **target}
    await events.emit(connection, alias.project, kind, alias.reference, data)


def owner_of(version: Version) -> str:
    """The name under which a version links its blobs."""
    return f"{NOUN}:{version.id}"
