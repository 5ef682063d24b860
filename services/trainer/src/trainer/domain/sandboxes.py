"""The sandbox of a program: which command bubblewrap is told, and what the program finds inside.

Inside there is the system's and the interpreter's software, read-only; the bundle and the inputs, read-only; the job's
checkpoints, the attempt's outputs and a folder for temporary files. There is no network but a loopback of its own, no
process of the host, and no other user's name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from trainer.domain import programs
from trainer.domain.bundles import BundleSpec
from trainer.domain.programs import Told

ROOT = "/trainyard"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
CONFIGURATION = (
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime"),
    *("/etc/mime.types", "/etc/magic", "/etc/OpenCL", "/etc/fonts"),
)
# What of /proc is the whole kernel's: whose runner is root could write there, whatever his name inside is.
KERNEL = tuple(f"/proc/{name}" for name in ("acpi", "bus", "fs", "irq", "scsi", "sys", "sysrq-trigger"))
HIDDEN = tuple(f"/proc/{name}" for name in ("kcore", "keys", "kmsg", "mtrr", "sched_debug", "timer_list"))
USER = 1000
MADE = {
    "passwd": f"job:x:{USER}:{USER}:job:/tmp:/bin/sh\n",
    "group": f"job:x:{USER}:\n",
    "hosts": "127.0.0.1 localhost trainyard\n::1 localhost\n",
    "hostname": "trainyard\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
"""Files of /etc: nothing of the host's is said."""
PORT = 29500
SHARED = "/dev/shm"  # noqa: S108 - of the sandbox


@dataclass(frozen=True)
class Places:
    """Where the program finds what is its own."""

    bundle: str
    inputs: str
    run: str
    checkpoints: str
    socket: str
    temporary: str

    @property
    def outputs(self) -> str:
        return f"{self.run}/{programs.OUTPUTS}"

    @property
    def run_file(self) -> str:
        return f"{self.run}/{programs.RUN_FILE}"


def inside() -> Places:
    """In the sandbox."""
    return Places(
        bundle=f"{ROOT}/{programs.BUNDLE}",
        inputs=f"{ROOT}/{programs.INPUTS}",
        run=f"{ROOT}/{programs.RUN}",
        checkpoints=f"{ROOT}/checkpoints",
        socket=f"{ROOT}/{programs.RUN}/{programs.SOCKET}",
        temporary="/tmp",  # noqa: S108 - of the sandbox
    )


def outside(work: Path, checkpoints: str, socket: str) -> Places:
    """Without one."""
    run = work / programs.RUN
    return Places(
        bundle=str(work / programs.BUNDLE),
        inputs=str(work / programs.INPUTS),
        run=str(run),
        checkpoints=checkpoints,
        socket=socket,
        temporary=str(run / programs.TEMPORARY),
    )


def run_document(told: Told, places: Places) -> dict[str, Any]:
    """`run.json`: what the program is told."""
    dataset: dict[str, Any] | None = None
    if told.dataset is not None:
        splits = told.dataset["splits"]
        found = {split: [f"{places.inputs}/{name}" for name in names] for split, names in splits.items()}
        dataset = {**told.dataset, "splits": found}
    return {
        "job": told.job,
        "attempt": told.attempt,
        "seed": told.bundle.seed,
        "parameters": dict(told.bundle.parameters),
        "dataset": dataset,
        "checkpoints": places.checkpoints,
        "outputs": places.outputs,
        "socket": places.socket,
    }


def environment(told: Told, places: Places) -> dict[str, str]:
    """All that the program has of an environment."""
    spec = told.bundle
    threads = str(max(1, int(told.cpu) // spec.nproc))
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **spec.env,
        **told.launch,
        **{name: spec.env.get(name, threads) for name in names},
        "PATH": f"{PurePosixPath(told.python.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": places.temporary,
        "TMPDIR": places.temporary,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Without it, a worker that is started anew may look for its like where they were before.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[${rank}] ",
        "TRAINYARD_RUN_FILE": places.run_file,
        **{
            f"TRAINYARD_SECRET_{name.upper().replace('-', '_').replace('.', '_')}": value
            for name, value in told.secrets.items()
        },
    }


def command(spec: BundleSpec, python: str, port: int = PORT, *, nodes: bool = False) -> list[str]:
    """What is started: the entrypoint, or as many of it as are asked for; `nodes`: with those of other nodes."""
    if nodes:
        return [python, "-m", "torch.distributed.run", spec.entrypoint, *spec.arguments]
    if spec.nproc == 1:
        return [python, spec.entrypoint, *spec.arguments]
    launcher = [python, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={spec.nproc}"]
    rendezvous = ["--master-addr=127.0.0.1", f"--master-port={port}", "--max-restarts=0"]
    # By files, which the launcher reads line by line: what several write to one pipe is mixed up within lines.
    return [*launcher, *rendezvous, "--tee=3", spec.entrypoint, *spec.arguments]


def bubblewrap(
    told: Told,
    work: Path,
    *,
    socket: str,
    status: int,
    devices: Iterable[str],
    present: Mapping[str, str | None],
    kernel: Iterable[str],
    hidden: Iterable[str],
) -> list[str]:
    """The sandbox, as a command that the program's own follows.

    `present` is what of SYSTEM the host has, and whereto it leads if it is a link; `kernel` and `hidden` are what it
    has of these. The environment comes from the caller: arguments are for all to see.
    """
    places = inside()
    run = work / programs.RUN
    return [
        *("bwrap", "--unshare-all", "--die-with-parent", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
        *("--uid", str(USER), "--gid", str(USER), "--hostname", "trainyard", "--json-status-fd", str(status)),
        *_system(present),
        *_each("--ro-bind-try", CONFIGURATION),
        *(part for name in MADE for part in ("--ro-bind", str(work / "etc" / name), f"/etc/{name}")),
        *_each("--ro-bind", folders_of(told.python.folders)),
        *("--proc", "/proc", "--dev", "/dev"),
        *_each("--ro-bind", kernel),
        *(part for path in hidden for part in ("--ro-bind", "/dev/null", path)),
        *("--size", str(told.memory_bytes), "--perms", "1777", "--tmpfs", SHARED),
        *_each("--dev-bind-try", devices),
        *("--bind", str(run / programs.TEMPORARY), places.temporary),
        *("--ro-bind", str(work / programs.BUNDLE), places.bundle),
        *("--ro-bind", str(work / programs.INPUTS), places.inputs),
        *("--bind", told.checkpoints, places.checkpoints),
        *("--dir", places.run),
        *("--ro-bind", str(run / programs.RUN_FILE), places.run_file),
        *("--bind", str(run / programs.OUTPUTS), places.outputs),
        *("--bind", socket, places.socket),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", places.bundle, "--"),
    ]


def folders_of(folders: Sequence[str]) -> list[str]:
    """Those that are not part of another one, nor of the system's."""
    chosen = list[PurePosixPath]()
    for folder in sorted({PurePosixPath(each) for each in folders}, key=lambda each: len(each.parts)):
        if not any(folder.is_relative_to(str(other)) for other in (*chosen, *SYSTEM)):
            chosen.append(folder)
    return [str(folder) for folder in chosen]


def _system(present: Mapping[str, str | None]) -> list[str]:
    said = list[str]()
    for folder, target in present.items():
        said += ["--ro-bind", folder, folder] if target is None else ["--symlink", target, folder]
    return said


def _each(option: str, paths: Iterable[str]) -> list[str]:
    return [part for path in paths for part in (option, path, path)]
