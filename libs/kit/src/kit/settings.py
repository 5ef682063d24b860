"""The knobs that every service has. Each service subclasses this with its own prefix and reads it in one place.

class Settings(kit.settings.Settings):
    model_config = SettingsConfigDict(env_prefix="INGEST_", frozen=True)
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

from kit import databases


def _checked(url: SecretStr) -> SecretStr:
    databases.checked(url.get_secret_value())
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_checked)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+[^\s]*$")]
"""Where a service answers."""


class Settings(BaseSettings):
    # What is wrong is told without the values: they hold passwords.
    # What is set to nothing is not set: `X=${X:-}` of a compose file.
    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True, env_ignore_empty=True)

    database_url: DatabaseUrl
    """`postgresql://role:password@host/database` of the service's own role."""

    database_schema: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] | None = None
    """Where several services share one role: the schema of this one, made by `migrate`. Weaker than a role for each,
    since each can then read and change what the others have."""

    private_key_file: Path
    """What this service signs its internal tokens with (kit.keys)."""

    public_keys_file: Path
    """The public keys of all services."""

    host: str = "127.0.0.1"
    """Where to listen."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Where to listen. 0 takes a free one."""

    drain_seconds: NonNegativeInt = 0
    """How long to go on serving after SIGTERM, so that load balancers notice. Readiness is off from its beginning."""

    grace_seconds: PositiveInt = 25
    """How long the last requests have to finish after that."""

    otlp_endpoint: Url | None = None
    """Where traces go: the base URL of a collector that takes OTLP over HTTP, such as `http://collector:4318`
    (`/v1/traces` is appended). Absent: nothing is kept. Headers are told by `OTEL_EXPORTER_OTLP_HEADERS`."""

    otlp_ratio: float = Field(default=1.0, ge=0, le=1)
    """The share of traces that begin here and are kept. Of one that began elsewhere, who began it has decided."""

    redis_url: SecretStr | None = None
    """`redis://:password@host:6379/0` of a Redis or Valkey, for what may be lost: the gateway shares rate limits by it,
    and the trainer tells by it who follows a job that there is more. Absent: every process is on its own."""

    @property
    def url(self) -> str:
        """The database's address with its driver, and the schema when there is one."""
        url = databases.with_driver(self.database_url.get_secret_value())
        return url if self.database_schema is None else databases.in_schema(url, self.database_schema)

    @property
    def drain(self) -> timedelta:
        return timedelta(seconds=self.drain_seconds)

    @property
    def grace(self) -> timedelta:
        return timedelta(seconds=self.grace_seconds)
