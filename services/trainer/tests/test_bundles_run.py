"""Bundles as a runner runs them: real processes, in a real sandbox."""

import textwrap
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from attempts_at_work import Attempt
from bundles_at_work import NEEDS_SANDBOX, bundle_grant, wardens_of
from neighbours import Neighbours
from runners_at_work import PATIENCE, Boss, Host, ended, grant_of, running

from kit.testing import eventually
from trainer.domain.grants import Grant
from trainer.domain.programs import Told
from trainer.domain.steps import POISON_HINT
from trainer.runner import bundles
from trainer.runner.bundles import Wardens

pytestmark = NEEDS_SANDBOX
PREFACE = """
import json, os, socket, sys, time
run = json.load(open(os.environ["TRAINYARD_RUN_FILE"]))
def say(*messages):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(run["socket"])
        for each in messages:
            s.sendall((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\\n")
def save(formats, **more):
    folder = run["outputs"] + "/model"
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/model.json", "w") as file:
        json.dump({"formats": formats, **more}, file)
    return folder
"""


def runs(command: str) -> bool:
    return any(" ".join(process.info["cmdline"] or ()) == command for process in psutil.process_iter(["cmdline"]))


def program_of(text: str) -> str:
    return PREFACE + textwrap.dedent(text)


async def run_bundle(host: Host, boss: Boss, text: str, **spec: Any) -> dict[str, Any]:
    """How it ended: the exit code, with what the result says or else the failure."""
    grant = bundle_grant(boss, program_of(text), **spec)
    return await run_grant(host, boss, grant)


async def run_grant(host: Host, boss: Boss, grant: Grant) -> dict[str, Any]:
    before = len(boss.ends)
    boss.queue.append(grant)
    async with running(host):
        await eventually(lambda: len(boss.ends) > before, PATIENCE)
    end = boss.ends[before]
    return {"code": end["exit_code"], **(end["result"] or end["failure"])}


async def test_a_program_is_run_and_what_it_prints_is_the_jobs_log(host: Host, boss: Boss, attempt: Attempt) -> None:
    text = 'print("hello", run["parameters"], sys.argv[1:], os.getcwd()); sys.stderr.write("no end")'
    end = await run_bundle(host, boss, text, parameters={"lr": 0.1}, arguments=["--fast"], seed=7)
    assert (end["code"], end["outcome"], end["model"]) == (0, "succeeded", None)
    assert attempt.lines == ["hello {'lr': 0.1} ['--fast'] /trainyard/bundle", "no end"]


async def test_it_is_told_of_its_dataset_and_reads_it(
    host: Host, boss: Boss, attempt: Attempt, neighbours: Neighbours
) -> None:
    seen = grant_of(neighbours)
    text = """
    import pyarrow.parquet as pq
    dataset = run["dataset"]
    print(dataset["reference"], sorted(dataset["splits"]), [c["name"] for c in dataset["columns"]][:1])
    print(sum(pq.read_metadata(path).num_rows for paths in dataset["splits"].values() for path in paths))
    """
    end = await run_bundle(host, boss, text, dataset=seen.dataset, dataset_digest=seen.dataset_digest)
    assert end["outcome"] == "succeeded", end
    assert attempt.lines == ["flights@3 ['test', 'train'] ['carrier']", "600"]


async def test_metrics_and_progress_go_out_and_the_last_values_are_the_attempts(
    host: Host, boss: Boss, attempt: Attempt
) -> None:
    text = """
    say(*({"type": "metrics", "number": n, "step": n, "values": {"loss": 1 / n}} for n in range(1, 5)))
    say({"type": "progress", "done": 1, "total": 4}, {"type": "checkpoint", "step": 3, "path": "x"}, {"type": "news"})
    time.sleep(0.3)
    """
    end = await run_bundle(host, boss, text)
    assert end["metrics"] == {"loss": 0.25}
    points = attempt.entries("metrics", "points")
    assert [(point["name"], point["step"], point["value"]) for point in points][:2] == [
        ("loss", 1, 1.0),
        ("loss", 2, 0.5),
    ]
    assert attempt.lines == ["The checkpoint of step 3 is written."]


async def test_a_saved_model_is_handed_over(host: Host, boss: Boss) -> None:
    text = """
    folder = save([{"format": "onnx", "path": "model.onnx"}], metrics={"accuracy": 0.9}, signature={"inputs": []})
    open(folder + "/model.onnx", "w").write("weights")
    """
    end = await run_bundle(host, boss, text, register=True)
    assert end["outcome"] == "succeeded", end
    model = end["model"]
    assert list(model["files"]) == [
        {"format": "onnx", "path": "model.onnx", "size": 7, "digest": next(iter(boss.outputs))}
    ]
    assert list(boss.outputs.values()) == [b"weights"]
    assert (end["metrics"], model["task"], model["code_digest"][:7]) == ({"accuracy": 0.9}, "tensors", "sha256:")
    assert model["environment"]["python"]


@pytest.mark.parametrize(
    ("text", "reason", "says"),
    [
        ("raise ValueError('no such column')", "user-error", "ValueError: no such column"),
        ("sys.exit(3)", "user-error", "ended with code 3"),
        ("raise OSError(28, 'No space left on device')", "disk-full", "No space left"),
        ("raise MemoryError", "out-of-memory", "MemoryError"),
        ("class BadData(Exception): pass\nraise BadData('empty')", "bad-data", "empty"),
        ("class NotFinite(Exception): pass\nraise NotFinite('loss')", "non-finite", "loss"),
        ("os.kill(os.getpid(), 11)", "crashed", "signal 11"),
        ("os.kill(os.getpid(), 9)", "crashed", "was killed"),
        (
            "say({'type': 'metrics', 'step': 3, 'values': {'loss': float('nan')}}); time.sleep(60)",
            "non-finite",
            "step 3",
        ),
    ],
)
async def test_every_failure_has_a_name(host: Host, boss: Boss, text: str, reason: str, says: str) -> None:
    end = await run_bundle(host, boss, text.replace("\\n", "\n"))
    assert (end["outcome"], end["reason"]) == ("failed", reason)
    assert says in end["message"]
    assert end["hint"]


async def test_too_much_memory_ends_it_with_its_peak_also_in_a_child(host: Host, boss: Boss) -> None:
    text = """
    import subprocess
    subprocess.run([sys.executable, "-c", "x = bytearray(3 << 30); import time; time.sleep(60)"])
    time.sleep(60)
    """
    end = await run_bundle(host, boss, text, memory=256 << 20)
    assert end["reason"] == "out-of-memory"
    assert "256 MiB" in end["message"]


async def test_too_much_on_the_disk_ends_it(host: Host, boss: Boss) -> None:
    host.bundles = wardens_of(disk=32 << 20)
    text = """
    with open(run["outputs"] + "/big", "wb") as file:
        for _ in range(64): file.write(bytes(1 << 20))
    time.sleep(60)
    """
    assert (await run_bundle(host, boss, text))["reason"] == "disk-full"


async def test_a_bomb_of_processes_ends_with_its_sandbox(host: Host, boss: Boss) -> None:
    text = """
    import threading
    for _ in range(64):
        if os.fork() == 0:
            for _ in range(100): threading.Thread(target=time.sleep, args=(60,)).start()
            time.sleep(60)
    time.sleep(60)
    """
    end = await run_bundle(host, boss, text, memory=4 << 30)
    assert (end["reason"], "processes and threads" in end["message"]) == ("user-error", True)


async def test_nothing_outside_is_seen_and_nothing_inside_outlives_it(
    host: Host, boss: Boss, attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    monkeypatch.setenv("TRAINER_DATABASE_URL", "postgresql://secret")
    port = attempt.url.split("/")[2].split(":")[1]
    text = f"""
    import subprocess
    def tried(act):
        try: return act()
        except Exception as exc: return type(exc).__name__
    print(tried(lambda: open({str(secret)!r}).read()))
    print(tried(lambda: socket.create_connection(("127.0.0.1", {port}), 2)))
    print(sorted(name for name in os.environ if "TRAINER" in name or "secret" in os.environ[name]))
    print(tried(lambda: open("/trainyard/bundle/train.py", "a")), tried(lambda: open("/etc/passwd", "a")))
    print(tried(lambda: open("/dev/x", "w")), tried(lambda: open("/dev/shm/x", "w").name))
    print(tried(lambda: open("/usr/x", "w")), tried(lambda: open("/x", "w")), tried(lambda: open("/etc/shadow").read()))
    print(len([name for name in os.listdir("/proc") if name.isdigit()]) < 6, os.getuid(), socket.gethostname())
    print(tried(lambda: open("/proc/sys/kernel/core_pattern", "a")))
    print(subprocess.run(["unshare", "-U", "true"], stderr=subprocess.DEVNULL).returncode != 0)
    if os.fork() == 0:
        os.setsid()
        subprocess.run(["sleep", "61.5"])
    """
    end = await run_bundle(host, boss, text)
    assert end["outcome"] == "succeeded", end
    read, connected, variables, bundle, devices, usr, processes, kernel, namespaces = attempt.lines
    assert read == "FileNotFoundError"
    assert connected == "ConnectionRefusedError"
    assert (variables, devices) == ("[]", "OSError /dev/shm/x")
    assert set(f"{bundle} {usr}".split()) <= {"OSError", "PermissionError", "FileNotFoundError"}
    assert (processes, kernel, namespaces) == ("True 1000 trainyard", "OSError", "True")
    assert not runs("sleep 61.5")


@pytest.mark.parametrize(
    "text",
    [
        "folder = save([{'format': 'onnx', 'path': 'm'}]); os.symlink('/etc/passwd', folder + '/m')",
        "folder = save([{'format': 'onnx', 'path': 'm'}]); os.mkfifo(folder + '/m')",
        "folder = save([{'format': 'onnx', 'path': '../run.json'}])",
        "f = save([{'format': 'onnx', 'path': 'm'}]); open(f + '/m', 'w'); os.link(f + '/m', f + '/n')",
        "folder = save([{'format': 'onnx', 'path': 'm'}])",
        "folder = save([{'format': 'onnx', 'path': 'm'}], metrics={'a': float('nan')})",
        "folder = save([]); os.remove(folder + '/model.json'); os.symlink('/proc/1/environ', folder + '/model.json')",
        "os.symlink('/usr', run['outputs'] + '/model')",
        "folder = save([]); open(folder + '/model.json', 'w').write('[' * 100000)",
        "folder = save([]); open(folder + '/model.json', 'w').write(' ' * (2 << 20))",
        "print('nothing is saved')",
    ],
)
async def test_outputs_that_are_no_plain_files_are_refused(host: Host, boss: Boss, text: str) -> None:
    end = await run_bundle(host, boss, text, register=True)
    assert (end["outcome"], end["reason"]) == ("failed", "user-error")
    assert not boss.outputs


async def test_nonsense_and_floods_hurt_nobody(host: Host, boss: Boss, attempt: Attempt) -> None:
    text = """
    def ignored(act):
        try: act()
        except OSError: pass
    ignored(lambda: say(b"[" * 60000, b"nonsense", b"1", b'{"type": "metrics", "values": [1]}', b"\\xff\\xfe"))
    ignored(lambda: say(b"x" * (1 << 20)))
    for _ in range(200): ignored(lambda: say(b"no"))
    sys.stdout.write("x" * (64 << 20) + "\\n"); sys.stdout.flush()
    os.write(1, b"\\0\\xff\\xfe surrogate\\n")
    print("the end")
    """
    end = await run_bundle(host, boss, text)
    assert end["outcome"] == "succeeded", end
    warning, longest, odd, last = attempt.lines
    assert "what is no message" in warning
    assert (len(longest) < 17_000, longest.endswith("(the line was longer)")) == (True, True)
    assert (odd, last) == ("\N{REPLACEMENT CHARACTER}" * 3 + " surrogate", "the end")


async def test_told_to_stop_it_ends_by_itself_and_goes_on_from_its_checkpoints(
    host: Host, boss: Boss, attempt: Attempt
) -> None:
    text = """
    import signal
    path = run["checkpoints"] + "/1"
    if os.path.exists(path):
        print("resumed at", open(path).read())
        sys.exit()
    def stop(number, frame):
        open(path, "w").write("step 5")
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    print("begun")
    time.sleep(60)
    """
    grant = bundle_grant(boss, program_of(text))
    boss.queue.append(grant)
    async with running(host):
        await eventually(lambda: "begun" in attempt.lines, PATIENCE)
        boss.stop = True
        assert (await ended(boss))["result"]["outcome"] == "stopped"  # type: ignore[index]
    boss.stop = False
    again = bundle_grant(boss, program_of(text), job=grant.job, number=2)
    assert (await run_grant(host, boss, again))["outcome"] == "succeeded"
    assert attempt.lines == ["begun", "resumed at step 5"]
    assert not host.home.checkpoints_of(grant).exists()


async def test_a_line_of_the_log_can_end_it(host: Host, boss: Boss) -> None:
    policies = [{"pattern": "NCCL*timeout", "action": "exclude-node"}, {"pattern": "cannot", "action": "fail"}]
    for text, reason in (("NCCL WARN: timeout", "node-excluded"), ("this cannot work", "log-policy")):
        end = await run_bundle(host, boss, f"print({text!r}); time.sleep(60)", log_policies=policies)
        assert (end["reason"], text in end["message"]) == (reason, True)


async def test_what_a_killed_worker_printed_is_kept(host: Host, boss: Boss, attempt: Attempt) -> None:
    text = """
    for number in range(1000): print("line", number)
    os.kill(os.getpid(), 9)
    """
    assert (await run_bundle(host, boss, text))["reason"] == "crashed"
    assert attempt.lines == [f"line {number}" for number in range(1000)]


async def test_without_a_sandbox_it_is_refused_unless_that_is_waived(
    host: Host, boss: Boss, attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles._try_sandbox.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    end = await run_bundle(host, boss, "print('no')")
    assert (end["reason"], "TRAINER_RUNNER_SANDBOX" in end["hint"]) == ("sandbox-missing", True)
    assert attempt.lines == []
    host.bundles = wardens_of(sandbox=False)
    text = """
    if os.fork() == 0:
        os.setsid()
        os.execv("/bin/sleep", ["sleep", "62.5"])
    say({"type": "metrics", "step": 1, "values": {"loss": 2}})
    """
    end = await run_bundle(host, boss, text)
    assert (end["outcome"], end["metrics"]) == ("succeeded", {"loss": 2.0})
    monkeypatch.undo()
    assert not runs("sleep 62.5")


async def test_a_killed_warden_takes_all_with_it(host: Host, boss: Boss, attempt: Attempt) -> None:
    grant = bundle_grant(boss, program_of("print('begun'); os.execv('/bin/sleep', ['sleep', '63.5'])"))
    boss.queue.append(grant)
    async with running(host):
        await eventually(lambda: "begun" in attempt.lines, PATIENCE)
        keeper = int((host.work(grant) / "keeper.pid").read_text())
        [warden] = psutil.Process(keeper).children()
        warden.kill()
        end = await ended(boss)
    assert (end["exit_code"], end["result"], end["failure"]) == (-9, None, None)
    assert not runs("sleep 63.5")


async def test_a_secret_in_the_log_is_covered(host: Host, boss: Boss, attempt: Attempt) -> None:
    grant = bundle_grant(boss, program_of("print(os.environ['TRAINYARD_SECRET_API_KEY'], 'hunter2hunter2')"))
    host.bundles = Telling()
    assert (await run_grant(host, boss, grant))["outcome"] == "succeeded"
    assert attempt.lines == ["••• •••"]


class Telling(Wardens):
    """As if the grant had a secret."""

    def told(self, *given: Any) -> Told:
        return replace(super().told(*given), secrets={"api-key": "hunter2hunter2"})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of runners that are gone
async def test_what_takes_its_runner_down_again_and_again_is_given_up(host: Host, boss: Boss, attempt: Attempt) -> None:
    grant = bundle_grant(boss, program_of("print('begun'); time.sleep(60)"))
    boss.queue.append(grant)
    async with running(host, kills=True, beat=5):
        await eventually(lambda: "begun" in attempt.lines, PATIENCE)
    for times in (1, 2):
        async with running(host, kills=True, beat=5):
            await eventually(lambda: host.home.records()[0].taken == times, PATIENCE)  # noqa: B023 - within its turn
    async with running(host, beat=5):
        end = await ended(boss)
    assert end["failure"] == {"reason": "poison", "message": end["failure"]["message"], "hint": POISON_HINT}  # type: ignore[index]
    assert not (host.home.folder / "attempts" / grant.attempt).exists()


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
async def test_several_processes_find_each_other_in_the_sandbox(host: Host, boss: Boss, attempt: Attempt) -> None:
    text = """
    import torch, torch.distributed as dist
    dist.init_process_group("gloo")
    total = torch.tensor([float(os.environ["RANK"])])
    dist.all_reduce(total)
    print("all", total.item(), os.environ["WORLD_SIZE"], flush=True)
    dist.barrier()
    dist.destroy_process_group()
    if run["parameters"] and os.environ["RANK"] == "1":
        raise ValueError("rank 1 cannot")
    """
    end = await run_bundle(host, boss, text, nproc=2, memory=4 << 30)
    assert end["outcome"] == "succeeded", (end, attempt.lines)
    assert sorted(line for line in attempt.lines if " all " in line) == ["[0] all 1.0 2", "[1] all 1.0 2"]
    end = await run_bundle(host, boss, text, nproc=2, memory=4 << 30, parameters={"fail": 1})
    assert (end["reason"], end["message"].split("\n")[0]) == ("user-error", "ValueError: rank 1 cannot")


async def test_what_hides_in_folders_is_found_and_removed(host: Host, boss: Boss) -> None:
    host.bundles = wardens_of(disk=1 << 30)
    text = """
    os.chdir(run["outputs"])
    os.makedirs("closed/within"); os.chmod("closed", 0)
    for _ in range(1500):
        os.mkdir("ddddd"); os.chdir("ddddd")
    print("deep", flush=True)
    time.sleep(60)
    """
    grant = bundle_grant(boss, program_of(text))
    assert (await run_grant(host, boss, grant))["reason"] == "disk-full"
    assert not host.home.folder_of(grant).exists()
