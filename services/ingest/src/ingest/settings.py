"""Every knob of ingest, each read from INGEST_<NAME>. Read only here, by app.py and __main__.py."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt, StringConstraints
from pydantic_settings import SettingsConfigDict

from kit.settings import Settings as KitSettings


class Settings(KitSettings):
    model_config = SettingsConfigDict(env_prefix="INGEST_", frozen=True)

    objects_url: str = Field(pattern="^(file:///|s3://).")
    """Where bytes are kept: `s3://bucket`, or `file:///folder` on one machine."""

    objects_public_url: Annotated[str, StringConstraints(pattern="^https?://.")] | None = None
    """The address of that bucket for users, such as `https://s3.example.org/bucket`: signed URLs then lead there.
    Without it they lead to the gateway."""

    work_dir: Path
    """Where sources are unpacked and parsed, in a folder of this service's own. Nothing in it outlives its use."""

    upload_bytes: PositiveInt = 8 << 30
    """Largest upload, as it is sent."""

    open_uploads: PositiveInt = 100
    """Uploads of a project under way, or without a version yet."""

    unpacked_bytes: PositiveInt = 16 << 30
    """Largest source after decompression."""

    parser_memory_bytes: PositiveInt = 600 << 20
    """Resident memory of a parser child."""

    parser_seconds: PositiveInt = 900
    """Time of a parser child."""

    workers: PositiveInt = 2
    """Sources parsed at one time by this replica."""

    failed_days: PositiveInt = 30
    """How long a failed version is kept."""

    collect_seconds: PositiveInt = 300
    """Between two collections of what nothing needs."""
