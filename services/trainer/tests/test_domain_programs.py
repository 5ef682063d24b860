"""What programs of bundles say, how they end, and what they are told."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from makers import attempt_of, job_of, result_of

from trainer.domain import sandboxes
from trainer.domain.attempts import Outcome
from trainer.domain.bundles import Action, BundleSpec, LogPolicy
from trainer.domain.grants import Grant
from trainer.domain.jobs import JobSpec
from trainer.domain.manifests import manifest_of
from trainer.domain.programs import (
    Checkpoint,
    Ending,
    Metrics,
    NotFinite,
    Progress,
    Python,
    Told,
    failure_of,
    lines_of,
    message_of,
    traceback_of,
)

SPEC: dict[str, Any] = {"bundle": "sha256:" + "b" * 64, "entrypoint": "train.py"}
PYTHON = Python("/opt/env/bin/python", ("/opt/env", "/usr", "/opt/env/lib"), {"python": "3.11"})


def said(**message: Any) -> Any:
    return message_of(json.dumps(message).encode())


def told_of(**given: Any) -> Told:
    spec = BundleSpec.from_json(SPEC | given.pop("spec", {})).to_json()
    values: dict[str, Any] = {"url": "u", "token": "t", "sandbox": True, "checkpoints": "/c", "memory_bytes": 1 << 30}
    return Told(**{"job": "j", "attempt": 1, "spec": spec, "python": PYTHON, "disk_bytes": 1, **values, **given})


def test_messages_are_read() -> None:
    assert said(type="metrics", step=3, values={"loss": 1, "acc": 0.5}) == Metrics(3, {"loss": 1.0, "acc": 0.5})
    assert said(type="progress", done=5, total=4) == Progress(1.0)
    assert said(type="progress", done=1, total=0) is None
    assert said(type="checkpoint", step=7, path="x") == Checkpoint(7)
    assert said(type="news") is None


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[1]",
        b"[" * 100_000,
        b'{"type": "metrics"}',
        b'{"type": "metrics", "values": {"": 1}}',
        b'{"type": "metrics", "values": {"a\\u0000": 1}}',
        b'{"type": "metrics", "values": {"a": true}}',
        b'{"type": "metrics", "values": {"a": [1]}}',
        b'{"type": "metrics", "step": -1, "values": {}}',
        b'{"type": "metrics", "step": true, "values": {}}',
        b'{"type": "progress", "done": "1", "total": 2}',
        json.dumps({"type": "metrics", "values": {str(n): 1 for n in range(201)}}).encode(),
        b'{"type": "metrics", "values": {"a": 1' + b"0" * 400 + b"}}",
    ],
)
def test_what_is_no_message_is_none(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        message_of(line)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "NaN", "-Infinity"])
def test_a_metric_that_is_no_number_is_a_failure_of_its_own(value: object) -> None:
    with pytest.raises(NotFinite, match="'loss' is no finite number at step 4"):
        said(type="metrics", step=4, values={"loss": value})


TRACE = [
    "Traceback (most recent call last):",
    '  File "train.py", line 3, in <module>',
    "    fit()",
    "ValueError: no x",
]


@pytest.mark.parametrize(
    ("end", "reason", "says"),
    [
        (Ending(code=-9, ended_for="memory", peak=300 << 20, memory_bytes=256 << 20), "out-of-memory", "300 MiB"),
        (Ending(code=-9, ended_for="disk", disk_bytes=1 << 20), "disk-full", "1 MiB"),
        (Ending(code=-9, ended_for="tasks"), "user-error", "4096 processes"),
        (Ending(code=-9, ended_for="non-finite", said="The metric"), "non-finite", "The metric"),
        (Ending(code=0, policy=LogPolicy("x", Action.FAIL), said="axa"), "log-policy", "axa"),
        (Ending(code=0, policy=LogPolicy("x", Action.RETRY), said="axa"), "log-retry", "axa"),
        (Ending(code=0, policy=LogPolicy("x", Action.EXCLUDE_NODE), said="axa"), "node-excluded", "axa"),
        (Ending(code=1, lines=TRACE), "user-error", "ValueError: no x"),
        (Ending(code=1, lines=[*TRACE[:3], "MemoryError"], memory_bytes=1 << 30), "out-of-memory", "MemoryError"),
        (Ending(code=1, lines=[*TRACE[:3], "torch.OutOfMemoryError: CUDA"]), "out-of-memory", "CUDA"),
        (Ending(code=1, lines=[*TRACE[:3], "OSError: [Errno 28] No space"]), "disk-full", "No space"),
        (Ending(code=1, lines=[*TRACE[:3], "pyarrow.lib.ArrowInvalid: bad"]), "bad-data", "bad"),
        (Ending(code=1, lines=[*TRACE[:3], "a.b.NotFinite: loss"]), "non-finite", "loss"),
        (Ending(code=-11, lines=TRACE), "crashed", "signal 11"),
        (Ending(code=-9, peak=900, memory_bytes=1000), "out-of-memory", "at its peak"),
        (Ending(code=-9, peak=10, memory_bytes=1000), "crashed", "was killed"),
        (Ending(code=3, lines=["one", "two"]), "user-error", "ended with code 3"),
    ],
)
def test_every_end_has_a_name(end: Ending, reason: str, says: str) -> None:
    failure = failure_of(end)
    assert failure is not None
    assert (failure.outcome, failure.reason) == (Outcome.FAILED, reason)
    assert says in failure.message
    assert failure.hint


def test_an_end_that_is_no_failure() -> None:
    assert failure_of(Ending(code=0)) is None
    stopped = failure_of(Ending(code=0, stopped=True))
    assert stopped is not None
    assert stopped.outcome is Outcome.STOPPED


def test_the_traceback_that_says_why_is_not_the_launchers() -> None:
    launcher = [*TRACE[:3], "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: "]
    assert traceback_of(["[0] [rank0]: " + line for line in TRACE] + ["W torch", *launcher])[-1] == "ValueError: no x"
    assert traceback_of(launcher)[-1].startswith("torch.distributed")
    assert traceback_of([*TRACE[:3]]) == []
    assert traceback_of(["no", "trace"]) == []


def test_lines_are_cut_where_they_are_too_long() -> None:
    rest = bytearray()
    assert list(lines_of(b"one\ntw", rest, 10)) == ["one"]
    assert list(lines_of(b"o\r\n\xff\n", rest, 10)) == ["two", "\N{REPLACEMENT CHARACTER}"]
    for _ in range(100):
        assert list(lines_of(b"x" * 1000, rest, 10)) == []
    assert len(rest) == 11
    assert list(lines_of(b"\n", rest, 10)) == ["x" * 10 + " … (the line was longer)"]


def test_patterns_of_policies_are_text_and_stars() -> None:
    assert LogPolicy("NCCL*timed out", Action.FAIL).matches("x NCCL error: timed out x")
    assert not LogPolicy("NCCL*timed out", Action.FAIL).matches("timed out NCCL")
    assert LogPolicy("a.c", Action.FAIL).matches("a.c")
    assert not LogPolicy("a.c", Action.FAIL).matches("abc")


def test_what_is_told_comes_back() -> None:
    told = told_of(secrets={"key": "s"})
    assert Told.from_json(json.loads(json.dumps(told.to_json()))) == told


def test_the_run_file_and_the_environment_inside_and_outside() -> None:
    dataset = {"reference": "flights@3", "digest": "sha256:d", "columns": [], "splits": {"train": ["0.parquet"]}}
    told = told_of(
        dataset=dataset, secrets={"api-key": "s"}, cpu=4.0, spec={"nproc": 2, "env": {"MKL_NUM_THREADS": "9"}}
    )
    document = sandboxes.run_document(told, sandboxes.inside())
    assert document["dataset"]["splits"] == {"train": ["/trainyard/inputs/0.parquet"]}
    assert document["outputs"] == "/trainyard/run/outputs"
    outside = sandboxes.outside(Path("/w"), "/c", "/s")
    assert sandboxes.run_document(told_of(), outside) == {
        "job": "j",
        "attempt": 1,
        "seed": 0,
        "parameters": {},
        "dataset": None,
        "checkpoints": "/c",
        "outputs": "/w/run/outputs",
        "socket": "/s",
    }
    environment = sandboxes.environment(told, sandboxes.inside())
    assert environment["TRAINYARD_SECRET_API_KEY"] == "s"
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("2", "9")
    assert environment["PATH"].startswith("/opt/env/bin:")


def test_the_command_is_the_program_or_as_many_as_asked_for() -> None:
    assert sandboxes.command(BundleSpec.from_json(SPEC | {"arguments": ["-x"]}), "py") == ["py", "train.py", "-x"]
    several = sandboxes.command(BundleSpec.from_json(SPEC | {"nproc": 2}), "py", 5)
    assert several[:3] == ["py", "-m", "torch.distributed.run"]
    assert "--nproc-per-node=2" in several
    assert "--master-port=5" in several


def test_the_sandbox_has_what_is_needed_and_the_token_is_nowhere_in_it() -> None:
    argv = sandboxes.bubblewrap(
        told_of(token="tya_x"),
        Path("/w"),
        socket="/s",
        status=5,
        devices=["/dev/nvidia0"],
        present={"/usr": None, "/bin": "usr/bin"},
        kernel=["/proc/sys"],
        hidden=["/proc/kcore"],
    )
    said = " ".join(argv)
    assert "tya_x" not in said
    assert "--unshare-all" in argv
    assert "--symlink usr/bin /bin" in said
    assert "--ro-bind /opt/env /opt/env" in said
    assert "/opt/env/lib" not in said
    assert "--dev-bind-try /dev/nvidia0 /dev/nvidia0" in said
    assert "--ro-bind /dev/null /proc/kcore" in said
    assert argv[-1] == "--"


def test_a_spec_comes_back_with_its_nodes() -> None:
    for nodes in (1, 3, {"min": 1, "max": 4}):
        spec = BundleSpec.from_json(SPEC | {"nodes": nodes, "log_policies": [{"pattern": "x", "action": "fail"}]})
        assert spec.to_json()["nodes"] == nodes
        assert BundleSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_what_a_runner_and_the_registry_are_told_of_a_bundle() -> None:
    spec = JobSpec(bundle=BundleSpec.from_json(SPEC | {"nodes": 3}), model="digits")
    work = spec.work
    assert (work["kind"], work["register"], work["resources"]["cpu"]) == ("bundle", True, 1)
    assert spec.asks.cpu_millis == 3000
    result = result_of([("onnx", "m.onnx", "sha256:" + "a" * 64, 7)])
    assert result.model is not None
    result = replace(result, model=replace(result.model, twin={}, task="tensors"))
    job = job_of(spec=spec)
    manifest = manifest_of(job, attempt_of(job, result=result))
    assert (manifest["task"], manifest["twin"], manifest["formats"][0]["origin"]) == ("tensors", None, "user")
    assert "dataset" not in manifest["lineage"]
    grant = Grant(**dict.fromkeys(("attempt", "project", "job", "token", "subject"), "x"), **GIVEN, spec=work)
    assert (grant.pinned, grant.is_bundle, grant.bundle) == (None, True, spec.bundle)


GIVEN: dict[str, Any] = {"number": 1, "fence": 1, "dataset": None, "dataset_digest": None}
