"""Secrets and the attempts that are told them: who is, and what is kept out of what they say."""

import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from trainer.domain.jobs import JobSpec
from trainer.domain.leased import Attempt
from trainer.domain.redaction import NOTHING_HIDDEN, Redactor
from trainer.domain.secrets import SecretMissing, SecretsUnavailable, Vault, missing
from trainer.store.jobs import JobStore
from trainer.store.secrets import SecretStore

REMEMBERED = 1000
OFF = "This suite keeps no secrets: its operator has given the trainer no key file (TRAINER_SECRETS_KEY_FILE)."


class Secrecy:
    """What a process of the API knows of secrets."""

    def __init__(self, vault: Vault | None) -> None:
        """Without a vault, no secret is taken and none is told."""
        self._vault = vault
        self._redactors = OrderedDict[tuple[uuid.UUID, int], Redactor]()

    @property
    def vault(self) -> Vault:
        """
        Raises:
            SecretsUnavailable: there is no key.
        """
        if self._vault is None:
            raise SecretsUnavailable(OFF)
        return self._vault

    async def told_to(self, connection: AsyncConnection, attempt: Attempt) -> Mapping[str, str]:
        """What the program of a live attempt may know, by the names that its job gave.

        Raises:
            SecretMissing: one of them was deleted since.
            SecretsUnavailable: they cannot be opened.
        """
        job = await JobStore(connection).find(attempt.project, attempt.job_id)
        assert job is not None  # its attempt names it
        values = await self._values(connection, attempt.project, _names(job.spec))
        self._remember(attempt, Redactor(values.values()))
        return values

    async def redactor(self, connection: AsyncConnection, attempt: Attempt) -> Redactor:
        """What keeps the attempt's secrets out of what it says. A second net: who runs it has the first one."""
        known = self._redactors.get((attempt.id, attempt.fence))
        if known is not None:
            return known
        job = await JobStore(connection).find(attempt.project, attempt.job_id)
        names = () if job is None else _names(job.spec)
        try:
            values = await self._values(connection, attempt.project, names) if names else {}
        except (SecretMissing, SecretsUnavailable):
            values = {}  # it was told none, or others than there are now
        self._remember(attempt, redactor := Redactor(values.values()) if values else NOTHING_HIDDEN)
        return redactor

    def _remember(self, attempt: Attempt, redactor: Redactor) -> None:
        self._redactors[attempt.id, attempt.fence] = redactor
        while len(self._redactors) > REMEMBERED:
            self._redactors.popitem(last=False)

    async def _values(self, connection: AsyncConnection, project: str, names: Sequence[str]) -> Mapping[str, str]:
        sealed = await SecretStore(connection).sealed(project, names)
        _refuse_missing(names, sealed)
        return {name: self.vault.open(project, name, kept) for name, kept in sealed.items()}


def _names(spec: JobSpec) -> Sequence[str]:
    return () if spec.bundle is None else spec.bundle.secrets


async def check(connection: AsyncConnection, project: str, spec: JobSpec) -> None:
    """
    Raises:
        SecretMissing: the job names a secret that its project does not have.
    """
    if names := _names(spec):
        _refuse_missing(names, await SecretStore(connection).sealed(project, names))


def _refuse_missing(names: Sequence[str], known: Mapping[str, object]) -> None:
    if places := missing(names, known):
        said = ", ".join(place["detail"] for place in places)
        raise SecretMissing(f"The job names secrets that its project does not have: {said}.", errors=places)
