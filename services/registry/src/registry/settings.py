"""Every knob of the registry, each read from REGISTRY_<NAME>. Read only here, by app.py and __main__.py."""

from pydantic import Field, PositiveInt
from pydantic_settings import SettingsConfigDict

from kit.settings import Settings as KitSettings


class Settings(KitSettings):
    model_config = SettingsConfigDict(env_prefix="REGISTRY_", frozen=True)

    objects_url: str = Field(pattern="^(file:///|s3://).")
    """Where models' files are kept: `s3://bucket` or `file:///folder`."""

    file_bytes: PositiveInt = 512 << 20
    """Largest file of a model."""

    changes: PositiveInt = 3
    """Files, versions and aliases recorded at one time by this process; others wait without a connection."""

    collect_seconds: PositiveInt = 300
    """Between two collections of what nothing needs."""
