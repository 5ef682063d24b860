"""Every knob of pipelines, each read from PIPELINES_<NAME>. Read only here, by app.py and __main__.py."""

from pydantic import PositiveInt
from pydantic_settings import SettingsConfigDict

from kit.settings import Settings as KitSettings
from kit.settings import Url


class Settings(KitSettings):
    model_config = SettingsConfigDict(env_prefix="PIPELINES_", frozen=True)

    ingest_url: Url
    """Where ingest is."""

    trainer_url: Url
    """Where the trainer is."""

    registry_url: Url
    """Where the registry is."""

    serving_url: Url
    """Where serving is."""

    workers: PositiveInt = 16
    """Steps looked at at one time by this replica."""

    expression_memory_bytes: PositiveInt = 256 << 20
    """Resident memory of a child that evaluates expressions."""

    expression_seconds: PositiveInt = 10
    """Processor time of such a child; it may be there for three times as long."""

    run_days: PositiveInt = 90
    """How long a run is kept after its end."""

    result_days: PositiveInt = 90
    """How long the result of a step is reused after its last use."""
