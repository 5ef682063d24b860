"""Every knob of the gateway, each read from GATEWAY_<NAME>. Read only here, by app.py and __main__.py."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, StringConstraints
from pydantic_settings import SettingsConfigDict

from gateway.domain.endpoints import Origin
from kit.settings import Settings as KitSettings


def _urls(text: str) -> str:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        Origin.of(part)
    return ",".join(parts)


Urls = Annotated[str, StringConstraints(min_length=1), AfterValidator(_urls)]
SERVICES = ("ingest", "trainer", "registry", "serving", "pipelines")


class Settings(KitSettings):
    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True)

    ingest_url: Urls
    """Where ingest answers: a URL, or several with commas between them. A name stands for all its addresses, each of
    which is a copy. The same for the others."""

    trainer_url: Urls
    """Where the trainer answers."""

    registry_url: Urls
    """Where the registry answers."""

    serving_url: Urls
    """Where serving answers."""

    pipelines_url: Urls
    """Where pipelines answers."""

    resolve_seconds: PositiveFloat = 2
    """Between two look-ups of the names in these URLs."""

    ready_seconds: PositiveFloat = 1
    """Between two questions to each copy whether it is ready: one that is about to end gets no request after that."""

    work_dir: Path | None = None
    """Where the last snapshot of all keys (hashes) is kept, so that a restart without database goes on predicting."""

    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Where `/metrics` is, apart from the API that the outside reaches. None: nowhere."""

    requests_per_second: PositiveFloat = 2000
    """Of one key, at each replica, on average."""

    requests_at_once: PositiveInt = 4000
    """Of one key, after a pause."""

    in_flight_per_key: PositiveInt = 512
    """Requests of one key under way."""

    in_flight: PositiveInt = 2048
    """Requests under way together."""

    refresh_seconds: Annotated[float, Field(gt=0, le=5)] = 2
    """Between two readings of all keys; changes are told at once as well."""

    fresh_seconds: Annotated[float, Field(ge=1, le=5)] = 5
    """How old what we know of keys may be for everything but predictions."""

    offline_seconds: PositiveInt = 15 * 60
    """How old it may be for predictions, while the database is away."""

    answer_seconds: PositiveInt = 150
    """How long a service may be silent: longer than any long poll."""

    document_seconds: PositiveInt = 60
    """Between two readings of the services' API documents."""

    key_days: PositiveInt = 90
    """How long a key lasts when nobody says."""

    longest_key_days: PositiveInt = 3650
    """How long it may last."""

    keys_per_project: PositiveInt = 1000
    """Live keys of one project."""

    def urls(self) -> dict[str, list[str]]:
        """The endpoints of each service."""
        return {service: getattr(self, f"{service}_url").split(",") for service in SERVICES}

    @property
    def fresh(self) -> timedelta:
        return timedelta(seconds=self.fresh_seconds)

    @property
    def offline(self) -> timedelta:
        return timedelta(seconds=self.offline_seconds)
