"""Every knob of the trainer and its runner, each read from TRAINER_<NAME>. Read only by app.py and __main__.py."""

from pathlib import Path
from typing import Literal

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

    secrets_key_file: Path | None = None
    """Keys of 64 hexadecimal digits, one a line: the last one seals the secrets of projects, each opens what it has
    sealed. Lose them, and the secrets must be set again. Absent: no secret is taken."""

    operators: str = "default"
    """The project whose admins set the quotas of all projects."""

    collect_seconds: PositiveInt = 300
    """Between two collections of what nothing needs."""

    runner_slots: NonNegativeInt = 0
    """Attempts that a runner works on at one time; each of them takes one processor. 0: as many as the host has."""

    runner_gpus: NonNegativeInt = 0
    """GPUs of the host that its runner gives to attempts. Attempts that ask for more are left to others."""

    runner_memory_bytes: PositiveInt = 4 << 30
    """Resident memory of an attempt, with all that it starts."""

    runner_disk_bytes: PositiveInt = 32 << 30
    """What an attempt of a bundle may have on the disk: outputs, checkpoints and temporary files."""

    runner_sandbox: Literal["bwrap", "none"] = "bwrap"
    """`none` runs bundles without a sandbox, as the runner's own user: for jobs of people one would lend a shell to."""

    runner_python: Path | None = None
    """The interpreter that runs bundles, with `trainyard` and all that programs import. Absent: the runner's own."""

    runner_beat_seconds: PositiveFloat = 2
    """Between two heartbeats of a runner for an attempt."""

    runner_port: int | None = Field(default=None, ge=0, le=65535)
    """Where a runner shows `/livez`, `/readyz` and `/metrics`. Absent: nowhere. 0 takes a free one."""

    runner_stop_seconds: PositiveFloat = 10
    """How long a program has to end after SIGTERM."""

    kubernetes_namespace: str = "default"
    """Where `python -m trainer kubernetes` has Jobs: nothing else of the suite should be there."""

    kubernetes_host: str = Field(default="kubernetes", pattern="^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
    """The name under which a cluster's attempts are leased: of all replicas the same, of two clusters not."""

    kubernetes_trainer_url: Url | None = None
    """Where pods of jobs reach the trainer: from another namespace that is another name. Absent: the same."""

    kubernetes_image: str = "ghcr.io/trainyard/trainer-job:latest"
    """What pods of jobs run."""

    kubernetes_gpu_image: str | None = None
    """What they run when the job asks for GPUs. Absent: the same."""

    kubernetes_slots: PositiveInt = 100
    """Attempts in the cluster at one time. What does not fit on its nodes waits there."""

    kubernetes_grace_seconds: PositiveInt = 60
    """How long a pod has to end after SIGTERM: for a last checkpoint, and to hand things over."""

    kubernetes_work_size: str = "32Gi"
    """Disk of a pod, of its node's."""

    kubernetes_pull_secrets: tuple[str, ...] = ()
    """Secrets in that namespace with which images are pulled."""

    kubernetes_node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of nodes that jobs may run on."""

    kubernetes_gpu_node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of nodes that jobs with GPUs may run on, beside those."""

    kubernetes_tolerations: tuple[dict[str, str | int], ...] = ()
    """Taints that jobs may run in spite of, as Kubernetes writes them."""

    kubernetes_runtime_class: str | None = None
    """Another runtime for pods of jobs, such as gVisor's."""

    kubernetes_priority_class: str | None = None
    """The priority of their pods."""

    kubernetes_queue: str | None = None
    """A LocalQueue of Kueue: Jobs are made suspended then, and start when Kueue lets them, all pods at once."""

    kubernetes_checkpoints_claim: str | None = None
    """A volume claim that pods on all nodes can write. Absent: checkpoints go with their pod."""
