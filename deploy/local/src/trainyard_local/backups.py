"""A suite's data in a folder, and a suite from such a folder.

Objects are copied before the dump and once more after it. One that the dump names was there before it began, or is
younger: the first round has the former, whatever is deleted while the dump runs; the second round has the latter, since
nothing is collected before it is a day old. So no collection has to stand still.

    DIR/backup.json        {"format": 1, "at", "objects", "bytes"}; written last
    DIR/database.dump      of pg_dump, in its own format: the rows of all services as of one moment
    DIR/objects/blobs/…    as in the home
    DIR/credentials.json   as in the home, mode 0600

Internal keys and the passwords of database roles are not in it: a suite makes its own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from kit import databases
from trainyard_local import postgres, suite
from trainyard_local.home import DEFAULT_PORT, SERVICES, Home, Refused, write_private

FORMAT = 1
MANIFEST, DUMP = "backup.json", "database.dump"
RESTORING = "postgres.restoring"
# What a writer that died leaves beside a name (kit.blob_store).
_LEFTOVER = re.compile(r".+#\d+")


def backup(home: Home, folder: Path) -> dict[str, Any]:
    """Write a backup, whole or not at all: until it is whole it is called `<folder>.part`. The suite may run.

    Raises:
        Refused: there is nothing to back up, something is at `folder`, or pg_dump fails.
    """
    if not home.data.exists():
        raise Refused(f"There is no suite in {home.folder}.")
    half = _half(folder)
    with _serving(home, home.data) as url:
        _copy_objects(home.objects, half / "objects")
        _run_tool("pg_dump", url, "--format=custom", f"--file={half / DUMP}", suite.DATABASE)
        _copy_objects(home.objects, half / "objects")
    if home.credentials.exists():
        shutil.copy2(home.credentials, half / home.credentials.name)
    sizes = [path.stat().st_size for path in _objects(half / "objects")]
    told = {"format": FORMAT, "at": datetime.now(UTC).isoformat(), "objects": len(sizes), "bytes": sum(sizes)}
    write_private(half / MANIFEST, told)
    os.sync()  # before it has its name: a backup that a power cut takes away is none
    half.rename(folder)
    return {"folder": str(folder), **told}


def _half(folder: Path) -> Path:
    if folder.exists():
        raise Refused(f"{folder} exists. Name a folder that does not: every backup is one of its own.")
    half = folder.with_name(f"{folder.name}.part")
    try:
        half.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise Refused(f"{half} is there: of a backup that runs, or was cut off. Remove it when none runs.") from None
    except OSError as exc:
        raise Refused(f"{half} cannot be made: {exc.strerror}.") from exc
    return half


def restore(home: Home, folder: Path) -> dict[str, Any]:
    """Fill an empty home from a backup, and read every object of it. `up` starts it then.

    Cut off in the middle, it is run again.

    Raises:
        Refused: the backup is not whole, the home is in use or has data, or something is missing in what was restored.
    """
    told = _manifest(folder)
    home.make()
    with home.locked() as mine:
        if not mine:
            raise Refused(f"A suite runs in {home.folder}. Stop it with `trainyard down`, and name an empty home.")
        if home.data.exists():
            raise Refused(f"There is a suite in {home.folder}. A backup is restored into an empty home.")
        data = home.folder / RESTORING
        shutil.rmtree(data, ignore_errors=True)
        passwords = home.passwords([postgres.SUPERUSER, *SERVICES])
        postgres.initialise(data, passwords[postgres.SUPERUSER])
        _copy_objects(folder / "objects", home.objects)
        with _serving(home, data) as url:
            roles = {service: passwords[service] for service in SERVICES}
            databases.prepare(lambda name: _named(url, name), suite.DATABASE, roles)
            _run_tool("pg_restore", url, *_RESTORE, str(folder / DUMP))
            findings = _verified(home)
        if (folder / home.credentials.name).exists():
            write_private(home.credentials, json.loads((folder / home.credentials.name).read_text()))
        os.sync()
        data.rename(home.data)  # from here on there is a suite
    if findings:
        raise Refused(f"Restored, but not all is there:\n{findings}")
    return {"home": str(home.folder), **told}


# The schemas are those of `prepare`, which were empty, and are made anew with their rows: all of it, or nothing.
_RESTORE = (
    *("--clean", "--if-exists", "--single-transaction", "--exit-on-error"),
    f"--dbname={suite.DATABASE}",
)


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise Refused(f"{folder} is not a whole backup: it has no {MANIFEST}.") from None
    if told.get("format") != FORMAT:
        raise Refused(f"{folder} has the format {told.get('format')}; this release reads {FORMAT}.")
    return told


@contextmanager
def _serving(home: Home, data: Path) -> Iterator[str]:
    """The superuser's address of the server that has these files: the suite's own, or one for the time being."""
    password = home.passwords([postgres.SUPERUSER])[postgres.SUPERUSER]
    sockets = postgres.socket_folder(home.folder)
    if data == home.data and home.runner():
        url = postgres.url_of(sockets, postgres.SUPERUSER, password, "postgres")
        if not postgres.answers(url):
            raise Refused(f"PostgreSQL is not answering: see {home.log('postgres')}.")
        yield url
        return
    server = postgres.Server(data, sockets, password)
    try:
        yield server.url()
    finally:
        server.stop()


def _named(url: str, database: str) -> str:
    return sa.make_url(url).set(database=database).render_as_string(hide_password=False)


def _run_tool(name: str, url: str, *arguments: str) -> None:
    """A program of PostgreSQL's. The password goes by its environment, where other users cannot see it."""
    told = sa.make_url(url)
    where = {"PGHOST": str(told.query["host"]), "PGUSER": str(told.username), "PGPASSWORD": str(told.password)}
    done = subprocess.run(  # noqa: S603 - the wheel's own program
        [str(postgres.binaries() / name), *arguments], env={**os.environ, **where}, capture_output=True, text=True
    )
    if done.returncode:
        raise Refused(f"{name} failed: {done.stderr.strip()[-2000:]}")


def _objects(root: Path) -> Iterator[Path]:
    for path in (root / "blobs").rglob("*"):
        if not _LEFTOVER.fullmatch(path.name) and path.is_file():
            yield path


def _copy_objects(source: Path, target: Path) -> None:
    """What is there has the right bytes already: a name is a digest, and files get theirs when they are whole."""
    for path in _objects(source):
        copy = target / path.relative_to(source)
        if not copy.exists():
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            half = copy.with_name(f"{copy.name}#0")
            try:
                shutil.copy2(path, half)
            except FileNotFoundError:  # collected just now: nothing that was alive a moment ago
                continue
            half.rename(copy)


def _verified(home: Home) -> str:
    """What the services miss, or nothing."""
    told = suite.suite_of(home, DEFAULT_PORT, os.environ)
    command = [sys.executable, "-m", "kit", "keys", "init", "--dir", str(home.keys), *SERVICES]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - this very package
    findings = []
    for service in SERVICES:
        done = subprocess.run(  # noqa: S603 - this very package
            [sys.executable, "-m", service, "verify", "--deep"],
            env={**os.environ, **told.env(service)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            findings.append(done.stdout + done.stderr)
    return "".join(findings)
