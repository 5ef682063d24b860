"""The program of a bundle, as its warden sees it: what it is told, what it says, and what its end is called."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from trainer.domain.attempts import AttemptResult, Outcome
from trainer.domain.bundles import Action, BundleSpec, LogPolicy

WARDEN_FILE, RUN_FILE = "warden.json", "run.json"
BUNDLE, RUN, INPUTS, COLLECTED = "bundle", "run", "inputs", "collected"
OUTPUTS, SOCKET, TEMPORARY = "outputs", "runner.sock", "tmp"
MODEL, MODEL_FILE = "model", "model.json"
MAX_MESSAGE = 64 << 10
MAX_NAMES = 200
"""Metrics of one message."""
MAX_TASKS = 4096
"""Processes and threads at one time."""
TAIL = 400
"""Last lines that are kept to find out why a program has failed."""
WORDS = {"memory": "out-of-memory", "disk": "disk-full", "tasks": "user-error"}


class NotFinite(Exception):
    """A metric has a value that is no number."""


@dataclass(frozen=True)
class Python:
    """The interpreter that runs bundles, as it was asked about itself."""

    executable: str
    folders: tuple[str, ...]
    """All that it reads."""
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Told:
    """`warden.json`: all that the warden knows of its attempt."""

    job: str
    attempt: int
    url: str
    token: str
    spec: Mapping[str, Any]
    python: Python
    sandbox: bool
    checkpoints: str
    memory_bytes: int
    disk_bytes: int
    cpu: float = 1.0
    gpus: int = 0
    registers: bool = False
    dataset: Mapping[str, Any] | None = None
    """`reference`, `digest`, `columns`, and in `splits` paths below the work folder."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    launch: Mapping[str, str] = field(default_factory=dict)
    """What torchrun is told of other nodes, when there are any: it reads that from its environment."""
    heartbeat_seconds: float = 5.0

    @property
    def bundle(self) -> BundleSpec:
        """What to run."""
        return BundleSpec.from_json(self.spec)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From `warden.json`."""
        python = value["python"]
        return cls(**value | {"python": Python(**python | {"folders": tuple(python["folders"])})})

    def to_json(self) -> dict[str, Any]:
        """For `warden.json`."""
        return asdict(self)


@dataclass(frozen=True)
class Metrics:
    """Values at a step."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Progress:
    """So much of all is done."""

    fraction: float


@dataclass(frozen=True)
class Checkpoint:
    """One was written."""

    step: int


def message_of(line: bytes) -> Metrics | Progress | Checkpoint | None:
    """What a line from the program's socket says; None: nothing that is known.

    Raises:
        NotFinite: a metric has a value that is no number.
        ValueError: it is no message.
    """
    try:
        said = json.loads(line)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(said, dict):
        raise ValueError("no object")
    match said.get("type"):
        case "metrics":
            step, values = _whole(said.get("step", 0)), said.get("values")
            if not isinstance(values, dict) or len(values) > MAX_NAMES:
                raise ValueError("no values")
            return Metrics(step, {_name(name): _finite(name, value, step) for name, value in values.items()})
        case "progress":
            done, total = _number(said.get("done")), _number(said.get("total"))
            return Progress(min(1.0, max(0.0, done / total))) if total > 0 else None
        case "checkpoint":
            return Checkpoint(_whole(said.get("step", 0)))
        case _:
            return None


def _name(name: str) -> str:
    if not 1 <= len(name) <= 255 or not name.isprintable():
        raise ValueError("no name")
    return name


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("no number")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("no number that has 64 bits") from None
    return number if math.isfinite(number) else math.nan


def _finite(name: str, value: Any, step: int) -> float:
    # Not every JSON has a word for them: those that have none write it as text, or as null.
    if value is None or (isinstance(value, str) and value.lower().lstrip("+-") in ("nan", "inf", "infinity")):
        value = math.nan
    number = _number(value)
    if math.isnan(number):
        raise NotFinite(f"The metric {_name(name)[:100]!r} is no finite number at step {step}.")
    return number


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**62:
        raise ValueError("no step")
    return value


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a program has ended, and what was seen of it."""

    code: int
    """Its exit code; below zero, the signal."""
    stopped: bool = False
    """It was told to stop."""
    ended_for: str = ""
    """Why the warden has ended it: `memory`, `disk`, `tasks`, or `non-finite` and what was not …"""
    said: str = ""
    policy: LogPolicy | None = None
    """… or a line of its log that this is about."""
    lines: Sequence[str] = ()
    """The last that it printed."""
    peak: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0


def failure_of(end: Ending) -> AttemptResult | None:
    """What the end is called; None: it went well."""
    if end.policy is not None:
        return _by_policy(end.policy, end.said)
    match end.ended_for:
        case "memory":
            return _too_large(end)
        case "disk":
            said = f"The job wrote more than the {_mib(end.disk_bytes)} of disk that it may."
            return _failed("disk-full", said, DISK_HINT)
        case "tasks":
            said = f"The program had more than {MAX_TASKS} processes and threads at one time."
            return _failed(
                "user-error", said, "Start fewer: of a data loader, as many workers as there are processors."
            )
        case "non-finite":
            return _failed("non-finite", end.said, FINITE_HINT)
    if end.stopped:
        return AttemptResult(outcome=Outcome.STOPPED, message="The attempt was stopped.")
    return None if end.code == 0 else _by_itself(end)


MEMORY_HINT = "Ask for more by resources.memory, or use smaller batches, fewer workers or a smaller model."
DISK_HINT = "Write less to outputs, checkpoints and /tmp, or keep fewer checkpoints."
FINITE_HINT = "Lower the learning rate, clip gradients, or look for missing values in the data."
SANDBOX_HINT = (
    "bubblewrap needs user namespaces. The runner's operator can waive the sandbox: TRAINER_RUNNER_SANDBOX=none."
)
LOG_HINT = "The job's log has the details."


def _by_itself(end: Ending) -> AttemptResult:
    trace = traceback_of(end.lines)
    last = trace[-1] if trace else ""
    for reason, pattern, hint in _KNOWN:
        if trace and re.match(pattern, last):
            if reason == "out-of-memory":
                return _too_large(end, last)
            return _failed(reason, _told(trace), hint)
    if end.code == -9:
        if end.peak > 0.8 * end.memory_bytes:
            return _too_large(end)
        return _failed("crashed", f"The program was killed. It had {_mib(end.peak)} of memory at most.", LOG_HINT)
    if end.code < 0:
        said = f"The program was ended by signal {-end.code}."
        return _failed("crashed", _told([said, *trace]), "A library of the program may be broken or misused.")
    if trace:
        return _failed("user-error", _told(trace), LOG_HINT)
    said = f"The program ended with code {end.code}."
    return _failed("user-error", _told([said, *end.lines[-5:]]), LOG_HINT)


_KNOWN = (
    ("out-of-memory", r"(\w+\.)*(MemoryError|OutOfMemoryError|\w*ArrayMemoryError)\b", ""),
    ("out-of-memory", r"RuntimeError: .*DefaultCPUAllocator: (can't|not enough memory)", ""),
    ("disk-full", r"OSError: \[Errno (28|122|27)\]", DISK_HINT),
    ("non-finite", r"(\w+\.)*NotFinite\b", FINITE_HINT),
    (
        "bad-data",
        r"(\w+\.)*(BadData|NoDataset|DamagedFile|ArrowInvalid)\b",
        "Look at the dataset version that the job names.",
    ),
)


def traceback_of(lines: Sequence[str]) -> list[str]:
    """The end of the traceback that says why: the last one, but not a launcher's about its workers."""
    found = list[list[str]]()
    for line in lines:
        text = re.sub(r"^(\[\w+\](: |:| ))+", "", line)  # torchrun may say whose line it is
        if text.startswith("Traceback (most recent call last)"):
            found.append([])
        elif found and (not found[-1] or found[-1][-1].startswith(" ") or not found[-1][-1]):
            found[-1].append(text)
    whole = [each for each in found if each and not each[-1].startswith(" ")]
    own = [each for each in whole if "ChildFailedError" not in each[-1]]
    return (own or whole or [[]])[-1][-8:]


def _told(lines: Sequence[str]) -> str:
    """What was said last comes first."""
    *before, last = lines
    return "\n".join([last[:1000], *(line[:200] for line in before)])[:2000] if before else last[:2000]


def _too_large(end: Ending, last: str = "") -> AttemptResult:
    said = f"The job had {_mib(end.peak)} of memory at its peak, and may have {_mib(end.memory_bytes)}."
    return _failed("out-of-memory", f"{said} {last[:500]}".strip(), MEMORY_HINT)


def _by_policy(policy: LogPolicy, line: str) -> AttemptResult:
    reason = {Action.FAIL: "log-policy", Action.RETRY: "log-retry", Action.EXCLUDE_NODE: "node-excluded"}
    said = f"A line of the log has {policy.pattern[:200]!r}: {line[:1000]}"
    return _failed(reason[policy.action], said, f"The job's log policy says: {policy.action}.")


def _failed(reason: str, message: str, hint: str) -> AttemptResult:
    return AttemptResult(outcome=Outcome.FAILED, reason=reason, message=message, hint=hint)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def lines_of(chunk: bytes, rest: bytearray, longest: int) -> Iterator[str]:
    """The lines that a chunk ends; what it begins stays in `rest`, no more of it than a line may have."""
    *whole, last = chunk.split(b"\n")
    for part in whole:
        rest += part[: max(0, longest + 1 - len(rest))]
        line, cut = bytes(rest[:longest]), len(rest) > longest
        rest.clear()
        yield line.rstrip(b"\r").decode(errors="replace") + (" … (the line was longer)" if cut else "")
    rest += last[: max(0, longest + 1 - len(rest))]
