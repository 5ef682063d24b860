"""Every knob of serving, each read from SERVING_<NAME>. Read only here, by app.py and __main__.py."""

import tempfile
from datetime import timedelta
from pathlib import Path

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict

from kit.settings import Settings as KitSettings
from kit.settings import Url


class Settings(KitSettings):
    model_config = SettingsConfigDict(env_prefix="SERVING_", frozen=True)

    registry_url: Url = "http://127.0.0.1:8003"
    """Where models come from."""

    ingest_url: Url = "http://127.0.0.1:8001"
    """Where the datasets of batches are, and their results go."""

    work_dir: Path = Path(tempfile.gettempdir()) / "trainyard-serving"
    """Verified models and what was served last, so that a restart needs nobody else. Of one process alone."""

    grpc_port: int | None = Field(default=None, ge=0, le=65535)
    """Where the inference protocol is spoken over gRPC too, to services that hold an internal token; it needs the extra
    `grpc` (grpcio). 0 takes a free port. Unset: nowhere."""

    trust_file: Path | None = None
    """Who may attest models, and of which projects models must be attested: JSON, see docs/attestations.md. It is read
    whenever a model is loaded. Unset: every version that the registry names is loaded."""

    poll_seconds: PositiveFloat = 1.0
    """Between two looks at what is to be served; a notification comes sooner."""

    model_bytes: PositiveInt = 512 << 20
    """Largest file of a model."""

    project_deployments: PositiveInt = 100
    """Deployments that a project may have: every process keeps the models of all of them in memory."""

    waiting_requests: PositiveInt = 256
    """Requests that may wait for one model; more are told to come again."""

    queue_seconds: PositiveFloat = 1.0
    """How long a request waits for its model that sends no X-Request-Timeout; one that would take longer is refused."""

    resident_bytes: PositiveInt | None = None
    """Memory of all models; beyond it those are given up that were asked longest ago. Unset: no bound."""

    reload_seconds: PositiveFloat = 10.0
    """How long a request waits for a model that was given up, before it is told to come again."""

    runner_memory_bytes: PositiveInt = 4 << 30
    """Of the child that runs a project's models which need scikit-learn."""

    runner_load_seconds: PositiveFloat = 60.0
    """How long that child may take to load a model."""

    runner_predict_seconds: PositiveFloat = 10.0
    """How long it may take to answer, before it is taken to hang."""

    workers: PositiveInt = 4
    """Deployments, and batches, reconciled at one time by this replica."""

    batch_workers: NonNegativeInt = 1
    """Parts of batches that this process works on at one time, beside requests. 0: it leaves them to others."""

    batch_part_bytes: PositiveInt = 1 << 30
    """Rows of a part of a batch (32,768 rows), as JSON, which the work folder holds meanwhile."""

    project_batches: PositiveInt = 20
    """Batches of a project under way."""

    batch_days: PositiveInt = 30
    """How long a batch is shown that has ended. Its result is a dataset version, and stays."""

    prediction_workers: PositiveInt = 4
    """Requests that are answered later, answered at one time by this process."""

    prediction_hours: PositiveInt = 24
    """How long such a request waits at most, and how long its answer is kept."""

    waiting_predictions: PositiveInt = 1000
    """Of a project, to be answered later."""

    waiting_prediction_bytes: PositiveInt = 256 << 20
    """Of the bodies of these."""

    slow_request_seconds: PositiveFloat = 1.0
    """A request that takes longer is worth a line in the log, which says where its time went."""

    triton_metrics: bool = False
    """Show what is counted under the names of Triton's metrics too (`nv_inference_…`), for whoever knows these."""

    request_log_share: float = Field(default=0.0, ge=0, le=1)
    """Of all requests, chosen by their ids, that are kept with what was asked and answered: Parquet files below
    `requests` in the work folder. They hold what users send. 0: none."""

    request_log_row_bytes: PositiveInt = 16 << 10
    """Of the inputs of one such request, and of its outputs: its first rows, as many as fit."""

    request_log_seconds: PositiveFloat = 60.0
    """Between two files of a deployment, which is what a process that is killed loses at most."""

    request_log_buffer_bytes: PositiveInt = 32 << 20
    """That wait in memory to be written. What there is no room for is dropped, and counted."""

    request_log_bytes: PositiveInt = 1 << 30
    """Of all these files; the oldest are removed."""

    request_log_days: PositiveInt = 7
    """How long they are kept."""

    @property
    def runner_load(self) -> timedelta:
        return timedelta(seconds=self.runner_load_seconds)

    @property
    def runner_predict(self) -> timedelta:
        return timedelta(seconds=self.runner_predict_seconds)
