"""Attestations of a version: signed by whoever has a key, kept beside the version, and checked by who loads it."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path

from kit import idempotency
from kit.attestations import LARGEST, AttestationInvalid
from kit.callers import CallerDep, Role, requires
from kit.db import Transaction
from registry import actions
from registry.api.schemas import NameDep, VersionOut
from registry.domain.manifests import canonical
from registry.domain.versions import numbered

router = APIRouter(
    prefix="/v1/models/{name}/versions/{reference}/attestations", tags=["models"], route_class=idempotency.Route
)
KeyId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


@router.put("/{keyid}")
@requires(Role.EDITOR)
async def put_attestation(
    name: NameDep,
    reference: str,
    keyid: KeyId,
    envelope: Annotated[dict[str, Any], Body()],
    caller: CallerDep,
    transaction: Transaction,
) -> VersionOut:
    """Say with a key of your own that these files are this version, in place of what the same key has said before.

    The body is a DSSE envelope of an in-toto statement, whose subjects are the files of the version by SHA-256, and
    whose predicate (`https://trainyard.dev/attestations/model-version/v1`) says the version's digest. Whether the key
    is to be trusted is decided by those who load the model. `reference` is the version's number.
    """
    if keyid.startswith(f"{actions.SERVICE}-"):
        raise AttestationInvalid("Keys of that name are the registry's own.")
    if len(canonical(envelope)) > LARGEST:
        raise AttestationInvalid(f"An attestation has {LARGEST} bytes at most.")
    return VersionOut.of(await actions.attest(transaction, caller, name, numbered(reference), keyid, envelope))
