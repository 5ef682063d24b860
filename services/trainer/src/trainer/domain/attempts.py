"""What the runner and the program inside a job tell each other: `job.json` in, `result.json` out, and exit codes.

The runner makes the work folder (mode 0700), writes `job.json` (mode 0600: it holds the attempt's token) and starts
`python -m trainer.runtime <folder>`. The program writes its files into the same folder and, last and by renaming,
`result.json`: an attempt without a whole `result.json` has said nothing and is lost, whatever its exit code.

While it works the program calls the attempt's URL with the attempt's token as bearer:

* `POST {url}/heartbeat`  `{"progress": {"stage": str, "fraction": float | null}}`  → 200 `{"stop": bool}`
* `POST {url}/logs`       `{"entries": [{"number": int, "at": str, "level": str, "message": str}]}`  → 2xx
* `POST {url}/metrics`    `{"points": [{"number": int, "at": str, "name": str, "value": float, "step": int}]}`  → 2xx

`number` counts from 1 within the attempt and is sent again after a lost answer: the receiver keeps a number once.
An answer 401, 403, 404, 409 or 410 means that the attempt is over: the program stops as it does on SIGTERM.
"""

from dataclasses import asdict, dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Self

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
STAGES_FILE = "stages.ndjson"
"""When each stage began: `{"stage": str, "at": nanoseconds}`, one a line. It says nothing of how the attempt ended."""
SKOPS_FILE = "model.skops"
ONNX_FILE = "model.onnx"


class Exit(IntEnum):
    """The program's exit codes, after `sysexits.h`; any other code (or a signal) is a crash and may be retried."""

    SUCCEEDED = 0
    USER_ERROR = 65  # EX_DATAERR: the data or the settings cannot work; trying again is useless
    PLATFORM_ERROR = 70  # EX_SOFTWARE: our defect or the machine's; retry
    STOPPED = 75  # EX_TEMPFAIL: stopped by SIGTERM or because the attempt is over; nothing was handed over


class Outcome(StrEnum):
    """How an attempt ended, as `result.json` says it."""

    SUCCEEDED = "succeeded"
    USER_ERROR = "user-error"
    PLATFORM_ERROR = "platform-error"
    STOPPED = "stopped"


EXIT_OF = {
    Outcome.SUCCEEDED: Exit.SUCCEEDED,
    Outcome.USER_ERROR: Exit.USER_ERROR,
    Outcome.PLATFORM_ERROR: Exit.PLATFORM_ERROR,
    Outcome.STOPPED: Exit.STOPPED,
}


@dataclass(frozen=True)
class Estimator:
    """A scikit-learn estimator by import path."""

    path: str
    parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """`{"class": "sklearn…", "parameters": {…}}`, as on the wire of `POST /v1/jobs`."""
        return cls(path=value["class"], parameters=dict(value.get("parameters") or {}))

    def to_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {"class": self.path, "parameters": self.parameters}


@dataclass(frozen=True)
class Preprocessing:
    """How columns become numbers; `auto` chooses by the estimator."""

    numeric: str = "auto"  # auto | passthrough | impute_median | impute_median_scale
    categories: str = "auto"  # auto | ordinal | one_hot
    add_indicator: bool = False


@dataclass(frozen=True)
class TrainingSpec:
    """What to train: the part of a job that its author wrote."""

    task: str  # classification | regression
    target: str
    estimator: Estimator
    features: tuple[str, ...] | None = None  # None: all columns but the target
    preprocessing: Preprocessing = Preprocessing()
    baseline: tuple[str, ...] | None = None
    seed: int = 0

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From the body of `POST /v1/jobs` or from `job.json`; other keys are left alone."""
        features, baseline = value.get("features"), value.get("baseline")
        return cls(
            task=value["task"],
            target=value["target"],
            estimator=Estimator.from_json(value["estimator"]),
            features=None if features is None else tuple(features),
            preprocessing=Preprocessing(**(value.get("preprocessing") or {})),
            baseline=None if baseline is None else tuple(baseline),
            seed=value.get("seed", 0),
        )

    def to_json(self) -> dict[str, Any]:
        """The wire's shape."""
        return {
            "task": self.task,
            "target": self.target,
            "estimator": self.estimator.to_json(),
            "features": None if self.features is None else list(self.features),
            "preprocessing": asdict(self.preprocessing),
            "baseline": None if self.baseline is None else list(self.baseline),
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Shard:
    """A Parquet file of the dataset version, fetched and verified by the runner."""

    path: str  # below the work folder, or absolute
    split: str  # train | held_out
    rows: int
    digest: str


@dataclass(frozen=True)
class AttemptJob:
    """`job.json`: all that the program may know."""

    job: str
    attempt: str
    url: str  # the attempt's own URL, without a slash at the end
    token: str
    spec: TrainingSpec
    shards: tuple[Shard, ...]
    heartbeat_seconds: float = 5.0
    twin_seconds: float = 120.0  # how long the conversion to ONNX may take before the twin is given up
    memory_bytes: int | None = None  # what the attempt may hold in memory, with all that it starts

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From `job.json`."""
        return cls(
            **value
            | {
                "spec": TrainingSpec.from_json(value["spec"]),
                "shards": tuple(Shard(**shard) for shard in value["shards"]),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """For `job.json`."""
        return asdict(self) | {"spec": self.spec.to_json()}


@dataclass(frozen=True)
class OutputFile:
    """A file in the work folder that the attempt hands over."""

    format: str  # skops | onnx
    path: str  # the name in the work folder
    digest: str  # sha256:<64 hex>
    size: int


@dataclass(frozen=True)
class ModelOutput:
    """What the registry is told of the model, beside the job's own lineage."""

    files: tuple[OutputFile, ...]
    signature: dict[str, Any]  # models.signature.Signature.to_json()
    twin: dict[str, Any]  # models.twin.Verdict.to_json(): kept, reason, tolerance, max_difference
    parameters: dict[str, Any]  # estimator, preprocessing and seed as used
    input_example: tuple[dict[str, Any], ...]
    environment: dict[str, str]  # versions that the model depends on
    code_digest: str  # of the platform code that trained


@dataclass(frozen=True)
class AttemptResult:
    """`result.json`. `model` and `metrics` are there when it succeeded; `message` and `hint` when it did not."""

    outcome: Outcome
    message: str = ""
    hint: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)  # used: {"train", "held_out"}
    model: ModelOutput | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From `result.json`."""
        model = value["model"]
        if model is not None:
            files = tuple(OutputFile(**file) for file in model["files"])
            model = ModelOutput(**model | {"files": files, "input_example": tuple(model["input_example"])})
        return cls(**value | {"outcome": Outcome(value["outcome"]), "model": model})

    def to_json(self) -> dict[str, Any]:
        """For `result.json`."""
        return asdict(self)
