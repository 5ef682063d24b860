"""Every knob of serving, each read from SERVING_<NAME>. Read only here, by app.py and __main__.py."""

import tempfile
from datetime import timedelta
from pathlib import Path

from pydantic import PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict

from kit.settings import Settings as KitSettings
from kit.settings import Url


class Settings(KitSettings):
    model_config = SettingsConfigDict(env_prefix="SERVING_", frozen=True)

    registry_url: Url = "http://127.0.0.1:8003"
    """Where models come from."""

    work_dir: Path = Path(tempfile.gettempdir()) / "trainyard-serving"
    """Verified models and what was served last, so that a restart needs nobody else. Of one process alone."""

    poll_seconds: PositiveFloat = 1.0
    """Between two looks at what is to be served; a notification comes sooner."""

    model_bytes: PositiveInt = 512 << 20
    """Largest file of a model."""

    project_deployments: PositiveInt = 100
    """Deployments that a project may have: every process keeps the models of all of them in memory."""

    waiting_requests: PositiveInt = 256
    """Requests that may wait for one model; more are told to come again."""

    runner_memory_bytes: PositiveInt = 4 << 30
    """Of the child that runs a project's models which need scikit-learn."""

    runner_load_seconds: PositiveFloat = 60.0
    """How long that child may take to load a model."""

    runner_predict_seconds: PositiveFloat = 10.0
    """How long it may take to answer, before it is taken to hang."""

    workers: PositiveInt = 4
    """Deployments reconciled at one time by this replica."""

    @property
    def runner_load(self) -> timedelta:
        return timedelta(seconds=self.runner_load_seconds)

    @property
    def runner_predict(self) -> timedelta:
        return timedelta(seconds=self.runner_predict_seconds)
