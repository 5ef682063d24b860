"""What docker-compose.yml promises, asked of running containers, in the order of a day: up, the main job, restarts."""

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import load
import pytest
from stacks import DOUBLED, ROOT, Stack, name_of, say

from kit.testing import eventually

DATA = os.environ.get("DATA", "2013-h1")
PERIOD = timedelta(seconds=3)
"""How long after a copy is ready again the load goes on, until the gateway asks it again."""


def test_without_secrets_nothing_starts(unstarted: Stack, tmp_path: Path) -> None:
    (tmp_path / "empty.env").touch()
    done = unstarted.compose("config", secrets_file=tmp_path / "empty.env")
    assert done.returncode != 0
    assert "make secrets" in done.stderr


def test_a_second_make_secrets_changes_nothing(unstarted: Stack) -> None:
    file = unstarted.folder / ".env"
    before = file.read_bytes()
    subprocess.run([sys.executable, ROOT / "tools/compose_secrets.py", str(file)], check=True, capture_output=True)
    assert file.read_bytes() == before
    assert file.stat().st_mode & 0o777 == 0o600


def test_everything_comes_up_and_nothing_is_root(stack: Stack) -> None:
    found = stack.inspect(stack.containers())
    names = [name_of(it) for it in found]
    assert all(names.count(service) == 2 for service in DOUBLED)
    for it in found:
        name = name_of(it)
        assert it["Config"]["User"].split(":")[0] not in ("", "0", "root"), name
        assert it["HostConfig"]["ReadonlyRootfs"], name
        assert it["HostConfig"]["CapDrop"] == ["ALL"], name
        assert any(option.startswith("no-new-privileges") for option in it["HostConfig"]["SecurityOpt"]), name
        assert it["HostConfig"]["Memory"] > 0, name
        assert it["HostConfig"]["PidsLimit"] > 0, name
        processes = stack.docker("top", it["Id"], "-eo", "pid,uid").split()[3::2]
        assert processes, name
        assert "0" not in processes, name
        assert bool(it["HostConfig"]["PortBindings"]) == (name == "gateway"), name


def test_what_runs_once_ran_to_its_end(stack: Stack) -> None:
    everything = stack.inspect(stack.compose("ps", "--all", "--quiet").stdout.split())
    once = {name_of(it): it["State"]["ExitCode"] for it in everything if it["State"]["Status"] == "exited"}
    migrations = {f"migrate-{service}" for service in (*DOUBLED, "gateway")}
    assert once == dict.fromkeys({"keys", "database", "bootstrap", *migrations}, 0)


def test_a_service_can_read_its_own_key_alone(stack: Stack) -> None:
    (first, *_) = stack.containers("ingest")
    listed = stack.docker("exec", first, "python", "-c", "import os; print(*sorted(os.listdir('/keys')))")
    assert listed.split() == ["ingest", "public"]


def test_the_example_runs_unchanged(stack: Stack) -> None:
    began = time.monotonic()
    environment = {**os.environ, "TRAINYARD_URL": stack.url, "TRAINYARD_API_KEY": stack.key}
    command = [sys.executable, str(ROOT / "examples/flight-delays/demo.py"), "--data", DATA, "--output", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{stack.logs()[-6000:]}"
    facts = json.loads(done.stdout)
    say(
        f"example: {facts['model']}, ROC AUC {facts['metrics']['roc_auc']:.3f}, {facts['latency_ms']} ms,"
        f" {time.monotonic() - began:.0f} s"
    )
    assert facts["predictions"] == 100
    assert set(facts["formats"]) == {"skops", "onnx"}


async def test_a_copy_of_each_restarts_and_no_request_fails(stack: Stack) -> None:
    lines = []
    async with load.steady(stack.url, stack.key) as running:
        await eventually(lambda: len(running.outcomes) > 200, timedelta(seconds=60))
        for service in DOUBLED:
            began = time.monotonic()
            code = await asyncio.to_thread(restart, stack, service)
            until = time.monotonic() + PERIOD.total_seconds()
            await eventually(partial(passed, until))
            seen = running.since(began)
            failed = load.failures(seen)
            lines.append((service, code, len(seen), failed, load.p99(seen), time.monotonic() - began))
            say(f"restarted one {service}: {len(seen)} requests, {len(failed)} failed")
    table(lines, running.outcomes)
    assert not load.failures(running.outcomes)
    assert all(code == 0 for _, code, *_ in lines)
    assert all(count > 100 for _, _, count, *_ in lines)


def passed(moment: float) -> bool:
    return time.monotonic() > moment


def restart(stack: Stack, service: str) -> int:
    """End one copy, start it again, and wait until it is healthy. Its exit code."""
    first, _ = sorted(stack.containers(service))
    stack.docker("stop", "--time", "45", first)
    code = int(stack.inspect([first])[0]["State"]["ExitCode"])
    stack.docker("start", first)
    asyncio.run(eventually(lambda: stack.is_healthy(first), timedelta(seconds=90)))
    return code


def table(lines: list[tuple[str, int, int, list[str], float, float]], outcomes: list[load.Outcome]) -> None:
    say(f"{'service':<12} {'requests':>8} {'failed':>7} {'p99':>9} {'exit':>5} {'took':>6}")
    for service, code, count, failed, slow, seconds in lines:
        say(f"{service:<12} {count:>8} {len(failed):>7} {slow:>6.0f} ms {code:>5} {seconds:>4.0f} s")
    say(f"{'all':<12} {len(outcomes):>8} {len(load.failures(outcomes)):>7} {load.p99(outcomes):>6.0f} ms")
    for failure in load.failures(outcomes)[:10]:
        say(f"  {failure}")


def test_memory_is_within_what_was_stated(stack: Stack) -> None:
    shown = stack.docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemPerc}} {{.MemUsage}}")
    used = {line.split()[0]: float(line.split()[1].rstrip("%")) for line in shown.splitlines()}
    for line in sorted(shown.splitlines()):
        say(line)
    assert used
    assert not {name: share for name, share in used.items() if share > 85}


@pytest.mark.parametrize("profile", [True, False], ids=["with the profile", "with the engine's own"])
def test_the_sandbox_needs_the_stated_profile(stack: Stack, profile: bool) -> None:
    image = stack.inspect(stack.containers("trainer-runner"))[0]["Config"]["Image"]
    options = ["--security-opt", f"seccomp={ROOT}/deploy/compose/seccomp.json"] if profile else []
    hardened = ["--read-only", "--cap-drop=ALL", "--security-opt", "no-new-privileges", "--network=none"]
    sandbox = ["--unshare-all", "--ro-bind", "/", "/", "python3", "-c", "import os; print(os.getpid())"]
    command = ["docker", "run", "--rm", *hardened, *options, "--entrypoint", "bwrap", image, *sandbox]
    done = subprocess.run(command, env=dict(stack.environment), capture_output=True, text=True)
    assert (done.returncode == 0) is profile, done.stderr
