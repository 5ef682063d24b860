"""Every knob of the trainer and its runner, each read from TRAINER_<NAME>. Read only by app.py and __main__.py."""

from pathlib import Path

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict

from kit.settings import Settings as KitSettings
from kit.settings import Url


class Settings(KitSettings):
    model_config = SettingsConfigDict(env_prefix="TRAINER_", frozen=True)

    objects_url: str = Field(pattern="^(file:///|s3://).")
    """Where bytes are kept: `s3://bucket`, or `file:///folder` on one machine."""

    work_dir: Path
    """Where a runner keeps what it knows of its attempts, and their folders."""

    ingest_url: Url
    registry_url: Url
    trainer_url: Url
    """Of the trainer's own API: for its runner, and for the programs in jobs."""

    output_bytes: PositiveInt = 1 << 30
    """Largest file that an attempt hands over."""

    heartbeat_ttl_seconds: PositiveFloat = 20
    """How long a runner is believed to work on an attempt after its last word."""

    workers: PositiveInt = 8
    """Jobs reconciled at one time by this replica."""

    retired_days: PositiveInt = 30
    """How long a job is kept that failed or was cancelled."""

    succeeded_days: PositiveInt = 90
    """How long a job is kept that succeeded. Its model, and what that was made of, stay in the registry."""

    collect_seconds: PositiveInt = 300
    """Between two collections of what nothing needs."""

    runner_slots: NonNegativeInt = 0
    """Attempts that a runner works on at one time; each of them takes one processor. 0: as many as the host has."""

    runner_memory_bytes: PositiveInt = 4 << 30
    """Resident memory of an attempt, with all that it starts."""

    runner_beat_seconds: PositiveFloat = 2
    """Between two heartbeats of a runner for an attempt."""

    runner_port: int | None = Field(default=None, ge=0, le=65535)
    """Where a runner shows `/livez`, `/readyz` and `/metrics`. Absent: nowhere. 0 takes a free one."""

    runner_stop_seconds: PositiveFloat = 10
    """How long a program has to end after SIGTERM."""
