"""Every knob of the registry, each read from REGISTRY_<NAME>. Read only here, by app.py and __main__.py."""

from typing import Annotated

from pydantic import Field, PositiveInt, StringConstraints
from pydantic_settings import SettingsConfigDict

from kit.settings import Settings as KitSettings


class Settings(KitSettings):
    model_config = SettingsConfigDict(env_prefix="REGISTRY_", frozen=True)

    objects_url: str = Field(pattern="^(file:///|s3://).")
    """Where models' files are kept: `s3://bucket` or `file:///folder`."""

    objects_public_url: Annotated[str, StringConstraints(pattern="^https?://.")] | None = None
    """The address of that bucket for users, such as `https://s3.example.org/bucket`: signed URLs then lead there.
    Without it they lead to the gateway."""

    file_bytes: PositiveInt = 512 << 20
    """Largest file of a model."""

    open_uploads: PositiveInt = 100
    """Files of a project that wait for a version at one time; of those that come in, each process counts its own."""

    changes: PositiveInt = 3
    """Files, versions and aliases recorded at one time by this process; others wait without a connection."""

    collect_seconds: PositiveInt = 300
    """Between two collections of what nothing needs."""
