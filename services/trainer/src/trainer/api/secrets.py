"""Named secrets of a project: set, listed, deleted, and never shown."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from kit import audit
from kit.callers import CallerDep, Role, requires
from kit.db import Transaction
from kit.paging import PageDep, page_of
from trainer.api.schemas import Page
from trainer.api.state import PartsDep
from trainer.domain.redaction import SHORTEST
from trainer.domain.secrets import LONGEST, Secret
from trainer.domain.specs import NAME
from trainer.store.secrets import SecretStore

router = APIRouter(prefix="/v1/secrets", tags=["secrets"])
Name = Annotated[str, Path(pattern=f"^{NAME}$", max_length=63)]


def _long_enough(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().strip()) < SHORTEST:
        raise ValueError(f"must have {SHORTEST} characters at least, without spaces around them")
    return value


class SecretIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    value: Annotated[SecretStr, Field(min_length=SHORTEST, max_length=LONGEST), AfterValidator(_long_enough)]
    """8 characters at least: shorter ones are guessed, and cannot be kept out of a log."""


class SecretOut(BaseModel):
    name: str
    version: int
    """Counts how often it was set."""
    subject: str
    """Who set it last."""
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, secret: Secret) -> Self:
        return cls(**vars(secret))


@router.put("/{name}")
@requires(Role.EDITOR)
async def put_secret(
    name: Name, body: SecretIn, caller: CallerDep, transaction: Transaction, parts: PartsDep, response: Response
) -> SecretOut:
    """Set it. Attempts that are begun from now on are told the new value; nobody else is ever told one."""
    sealed = parts.secrecy.vault.seal(caller.project, name, body.value.get_secret_value())
    secret = await SecretStore(transaction).put(caller.project, name, sealed, caller.subject)
    await audit.record(transaction, caller, "set", "secret", name, {"version": secret.version})
    response.status_code = 201 if secret.version == 1 else 200
    return SecretOut.of(secret)


@router.get("")
@requires(Role.VIEWER)
async def list_secrets(caller: CallerDep, transaction: Transaction, page: PageDep) -> Page[SecretOut]:
    """By name, without their values."""
    found = await SecretStore(transaction).page(caller.project, after=page.after, limit=page.limit)
    items, token = page_of(found, page, key=lambda secret: secret.name)
    return Page(items=[SecretOut.of(secret) for secret in items], next_page_token=token)


@router.get("/{name}")
@requires(Role.VIEWER)
async def get_secret(name: Name, caller: CallerDep, transaction: Transaction) -> SecretOut:
    """What is known of it, without its value."""
    return SecretOut.of(await SecretStore(transaction).get(caller.project, name))


@router.delete("/{name}", status_code=204)
@requires(Role.EDITOR)
async def delete_secret(name: Name, caller: CallerDep, transaction: Transaction) -> None:
    """Forget it. Attempts that were told it still know it."""
    await SecretStore(transaction).delete(caller.project, name)
    await audit.record(transaction, caller, "delete", "secret", name, {})
