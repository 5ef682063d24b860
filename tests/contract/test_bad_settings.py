"""Every service, with each thing that it must be told missing or wrong: it does not start, and says what it was."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from kit.testing import SERVICES, KeyFolder

SOON = 5.0
HUSH = "hush-4711"
GOOD = f"postgresql://role:{HUSH}@127.0.0.1:1/database"
WRONG_DATABASES = [
    HUSH,
    f"mysql://role:{HUSH}@127.0.0.1/database",
    f"postgresql://role:{HUSH}@127.0.0.1:port-{HUSH}/database",
    "postgresql://role:postgres@127.0.0.1/database",
    "postgresql://role:Password@127.0.0.1/database",
    "postgresql+psycopg://role:trainyard@127.0.0.1/database",
    "postgres://role:role@127.0.0.1/database",
    "postgresql://role:@127.0.0.1/database",
]


def class_of(service: str) -> type[BaseSettings]:
    found: type[BaseSettings] = importlib.import_module(f"{service}.settings").Settings
    return found


def required(service: str) -> list[str]:
    return [name for name, field in class_of(service).model_fields.items() if field.is_required()]


def told(service: str, folder: Path, keys: KeyFolder) -> dict[str, str]:
    """All that this service must be told."""
    values = {
        "database_url": GOOD,
        "private_key_file": str(keys.private(service)),
        "public_keys_file": str(keys.public),
        "objects_url": f"file://{folder}",
        "work_dir": str(folder),
    }
    return {f"{service}_{name}".upper(): values.get(name, "http://127.0.0.1:1") for name in required(service)}


CASES = [(service, name) for service in SERVICES for name in required(service)]
URLS = [(service, name) for service, name in CASES if name.endswith("_url") and name != "database_url"]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.split("_")[0].lower() in SERVICES]:
        monkeypatch.delenv(name)
    return monkeypatch


def refused(service: str, environment: dict[str, str], clean: pytest.MonkeyPatch) -> dict[str, str]:
    """What is said to be wrong, by its field."""
    for name, value in environment.items():
        clean.setenv(name, value)
    with pytest.raises(ValidationError) as found:
        class_of(service)()
    assert HUSH not in str(found.value)
    return {str(error["loc"][0]): error["msg"] for error in found.value.errors()}


@pytest.mark.parametrize("service", SERVICES)
def test_all_that_is_required_is_enough(
    service: str, tmp_path: Path, key_folder: KeyFolder, clean: pytest.MonkeyPatch
) -> None:
    for name, value in told(service, tmp_path, key_folder).items():
        clean.setenv(name, value)
    class_of(service)()


@pytest.mark.parametrize(("service", "name"), CASES)
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_missing_is_named(
    service: str, name: str, value: str | None, tmp_path: Path, key_folder: KeyFolder, clean: pytest.MonkeyPatch
) -> None:
    environment = told(service, tmp_path, key_folder)
    environment.pop(f"{service}_{name}".upper())
    if value is not None:
        environment[f"{service}_{name}".upper()] = value
    assert list(refused(service, environment, clean)) == [name]


@pytest.mark.parametrize(("service", "name"), URLS)
@pytest.mark.parametrize("value", [HUSH, f"ftp://{HUSH}", "http://", "http:// "])
def test_what_is_no_address_is_named(
    service: str, name: str, value: str, tmp_path: Path, key_folder: KeyFolder, clean: pytest.MonkeyPatch
) -> None:
    environment = told(service, tmp_path, key_folder) | {f"{service}_{name}".upper(): value}
    assert list(refused(service, environment, clean)) == [name]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("value", WRONG_DATABASES)
def test_no_service_starts_with_a_password_that_anybody_would_guess(
    service: str, value: str, tmp_path: Path, key_folder: KeyFolder, clean: pytest.MonkeyPatch
) -> None:
    environment = told(service, tmp_path, key_folder) | {f"{service}_DATABASE_URL".upper(): value}
    said = refused(service, environment, clean)
    assert list(said) == ["database_url"]
    assert "anybody would guess" in said["database_url"] or "an address of PostgreSQL" in said["database_url"]


def ended(service: str, environment: dict[str, str], *, within: float = 60) -> tuple[int, dict[str, Any]]:
    """The exit code of `api`, and what it said of settings."""
    plain = {name: value for name, value in os.environ.items() if name.split("_")[0].lower() not in SERVICES}
    command = [sys.executable, "-m", service, "api"]
    done = subprocess.run(
        command, env={**plain, **environment}, capture_output=True, text=True, timeout=within, stdin=subprocess.DEVNULL
    )
    assert HUSH not in done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    said: dict[str, Any] = next(line["settings"] for line in lines if line["event"] == "settings are not right")
    return done.returncode, said


@pytest.mark.parametrize("service", SERVICES)
def test_a_process_that_was_told_nothing_ends_at_once_and_names_all(service: str) -> None:
    began = time.monotonic()
    code, said = ended(service, {})
    assert (code, sorted(said)) == (1, sorted(f"{service}_{name}".upper() for name in required(service)))
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("name", ["private_key_file", "public_keys_file"])
@pytest.mark.parametrize("content", [None, "", "{}", '{"issuer": "x", "keys": []}', '{"x": [{"kid": 1}]}', "[1]"])
def test_files_that_hold_no_keys_are_named(
    name: str, content: str | None, tmp_path: Path, key_folder: KeyFolder
) -> None:
    file = tmp_path / "file.json"
    if content is not None:
        file.write_text(content)
    wrong = f"registry_{name}".upper()
    code, said = ended("registry", told("registry", tmp_path, key_folder) | {wrong: str(file)})
    assert (code, list(said)) == (1, [wrong])
