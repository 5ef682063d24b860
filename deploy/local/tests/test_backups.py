"""What a backup refuses, and what it copies."""

import json
from pathlib import Path

import psycopg
import pytest

from kit import databases
from trainyard_local import backups, postgres, suite
from trainyard_local.home import SERVICES, Home, Refused

BLOB = Path("blobs/ingest/demo/sha256/aa/aa00")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """One with a database that has a row, an object and a key, and nothing that runs."""
    home = Home(tmp_path / "home")
    home.make()
    passwords = home.passwords([postgres.SUPERUSER, *SERVICES])
    postgres.initialise(home.data, passwords[postgres.SUPERUSER], durable=False)
    server = postgres.Server(home.data, postgres.socket_folder(home.folder), passwords[postgres.SUPERUSER])
    try:
        databases.prepare(server.url, suite.DATABASE, {service: passwords[service] for service in SERVICES})
        url = postgres.url_of(server.sockets, "ingest", passwords["ingest"], suite.DATABASE)
        with psycopg.connect(databases.plain(url)) as session:
            session.execute("create table lamps (name text)")
            session.execute("insert into lamps values ('red')")
    finally:
        server.stop()
    (home.objects / BLOB).parent.mkdir(parents=True)
    (home.objects / BLOB).write_bytes(b"bytes")
    (home.objects / f"{BLOB}#1").write_bytes(b"of a writer that died")
    (home.objects / "staging" / "ingest").mkdir(parents=True)
    (home.objects / "staging" / "ingest" / "x").write_bytes(b"on its way")
    home.credentials.write_text(json.dumps({"url": "http://127.0.0.1:8080", "api_key": "ty_x"}))
    return home


def test_a_backup_has_the_rows_the_objects_and_the_key_and_nothing_on_its_way(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    made = backups.backup(home, folder)
    assert (made["objects"], made["bytes"]) == (1, 5)
    assert folder.stat().st_mode & 0o777 == 0o700
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"backup.json", "database.dump", "credentials.json", f"objects/{BLOB}"}


def test_the_same_folder_is_not_written_twice(home: Home, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(Refused, match="exists"):
        backups.backup(home, tmp_path / "there")
    (tmp_path / "half.part").mkdir()
    with pytest.raises(Refused, match="runs, or was cut off"):
        backups.backup(home, tmp_path / "half")
    with pytest.raises(Refused, match="cannot be made"):
        backups.backup(home, home.credentials / "below-a-file")


def test_without_a_suite_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no suite"):
        backups.backup(Home(tmp_path / "empty"), tmp_path / "backup")


@pytest.mark.parametrize(
    ("manifest", "why"), [(None, "not a whole backup"), ('{"format": 2}', "format 2"), ("{", "not")]
)
def test_only_a_whole_backup_is_restored(tmp_path: Path, manifest: str | None, why: str) -> None:
    (tmp_path / "backup").mkdir()
    if manifest:
        (tmp_path / "backup" / "backup.json").write_text(manifest)
    with pytest.raises(Refused, match=why):
        backups.restore(Home(tmp_path / "new"), tmp_path / "backup")
    assert not (tmp_path / "new").exists()


def test_a_home_with_data_or_in_use_is_left_alone(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    backups.backup(home, folder)
    with pytest.raises(Refused, match="There is a suite"):
        backups.restore(home, folder)
    with home.locked(), pytest.raises(Refused, match="A suite runs"):
        backups.restore(home, folder)


def test_a_dump_that_is_cut_off_leaves_no_suite_and_it_is_tried_again(home: Home, tmp_path: Path) -> None:
    folder, new = tmp_path / "backup", Home(tmp_path / "new")
    backups.backup(home, folder)
    dump = (folder / "database.dump").read_bytes()
    (folder / "database.dump").write_bytes(dump[: len(dump) // 2])
    for _ in range(2):
        with pytest.raises(Refused, match="pg_restore failed"):
            backups.restore(new, folder)
        assert not new.data.exists()
