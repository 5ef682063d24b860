"""PostgreSQL from the wheel, for real."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from kit import databases
from trainyard_local import postgres


@pytest.fixture
def server(tmp_path: Path) -> Iterator[postgres.Server]:
    postgres.initialise(tmp_path / "data", "secret", durable=False)
    server = postgres.Server(tmp_path / "data", postgres.socket_folder(tmp_path), "secret")
    yield server
    server.stop(signal.SIGQUIT)


def test_each_service_has_a_schema_that_the_others_cannot_read(server: postgres.Server) -> None:
    passwords = {"ingest": "one", "trainer": "two"}
    for _ in range(2):
        databases.prepare(server.url, "suite", passwords)
    urls = {
        role: databases.plain(postgres.url_of(server.sockets, role, password, "suite"))
        for role, password in passwords.items()
    }
    with psycopg.connect(urls["ingest"]) as session:
        session.execute("create table datasets (name text)")
        assert session.execute("select current_schema()").fetchone() == ("ingest",)
    with psycopg.connect(urls["trainer"]) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("select * from ingest.datasets")


def test_nobody_enters_without_a_password(server: postgres.Server) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(databases.plain(postgres.url_of(server.sockets, "trainyard", "guess", "postgres")))


def test_it_is_back_after_a_kill_with_all_that_was_committed(tmp_path: Path) -> None:
    data, sockets = tmp_path / "data", postgres.socket_folder(tmp_path)
    postgres.initialise(data, "secret")
    first = postgres.Server(data, sockets, "secret")
    with psycopg.connect(databases.plain(first.url())) as session:
        session.execute("create table kept as select 1 as n")
    first.stop(signal.SIGKILL)
    second = postgres.Server(data, sockets, "secret")
    with psycopg.connect(databases.plain(second.url())) as session:
        assert session.execute("select n from kept").fetchone() == (1,)
    second.stop()


def test_a_lock_file_whose_number_is_another_program_now_does_not_stop_it(tmp_path: Path) -> None:
    data, sockets = tmp_path / "data", postgres.socket_folder(tmp_path)
    postgres.initialise(data, "secret")
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n0\n5432\n{sockets}\n\n0 0\nready\n")
    postgres.Server(data, sockets, "secret").stop()


def test_no_folder_is_opened_to_others(server: postgres.Server, tmp_path: Path) -> None:
    for folder in (tmp_path / "data", server.sockets):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == os.geteuid()


def test_a_long_home_gets_a_short_folder_for_its_socket(tmp_path: Path) -> None:
    home = tmp_path / ("long-" * 30)
    folder = postgres.socket_folder(home)
    assert len(str(folder)) < 88
    assert folder == postgres.socket_folder(home) != postgres.socket_folder(home / "other")
    folder.rmdir()
    postgres.socket_folder(home / "other").rmdir()


def test_a_socket_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    with pytest.raises(postgres.PostgresUnavailable, match="0700"):
        postgres.socket_folder(tmp_path)


def test_data_that_is_needed_tomorrow_is_on_disk_before_it_has_its_name(tmp_path: Path) -> None:
    for durable in (True, False):
        options = postgres.initdb_options(tmp_path / "data.new", tmp_path / "passwords", durable=durable)
        assert ("--no-sync" in options) is not durable


def test_a_killed_initdb_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "half").touch()
    postgres.initialise(tmp_path / "data", "secret")
    assert not (tmp_path / "data" / "half").exists()
