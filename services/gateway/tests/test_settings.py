"""What the gateway can be told, and how its process behaves."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway import __main__
from gateway.app import loops
from gateway.settings import SERVICES, Settings
from kit.testing import DatabaseUrl, KeyFolder

from .gateways import settings_of


@pytest.fixture
def told(key_folder: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the supervisor tells it."""
    values = {
        "DATABASE_URL": "postgresql+psycopg://a:b@/c?host=/nowhere",
        "HOST": "127.0.0.1",
        "PORT": "0",
        "OBJECTS_URL": "file:///nowhere",
        "PRIVATE_KEY_FILE": str(key_folder.private("gateway")),
        "PUBLIC_KEYS_FILE": str(key_folder.public),
        "WORK_DIR": "/nowhere",
        "GATEWAY_URL": "http://127.0.0.1:1",
        **{f"{service.upper()}_URL": "http://127.0.0.1:1" for service in SERVICES},
    }
    for name, value in values.items():
        monkeypatch.setenv(f"GATEWAY_{name}", value)
    return values


def test_what_the_supervisor_says_is_enough(told: dict[str, str]) -> None:
    settings = Settings()

    assert settings.urls() == {service: ["http://127.0.0.1:1"] for service in SERVICES}
    assert settings.work_dir == Path("/nowhere")
    assert settings.metrics_port is None
    assert settings.offline.total_seconds() == 900


def test_a_service_has_several_copies(told: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SERVING_URL", "http://a:1, http://b:2 ,https://c")

    assert Settings().urls()["serving"] == ["http://a:1", "http://b:2", "https://c"]


@pytest.mark.parametrize("value", ["", "a:1", "http://a:1,", ",", "ftp://a"])
def test_what_is_no_place_is_refused_at_the_start(
    told: dict[str, str], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("GATEWAY_SERVING_URL", value)
    with pytest.raises(ValidationError, match="serving_url"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("refresh_seconds", 6),
        ("refresh_seconds", 0),
        ("fresh_seconds", 6),
        ("offline_seconds", 0),
        ("metrics_port", 0),
        ("requests_per_second", 0),
        ("in_flight", 0),
        ("key_days", 0),
    ],
)
def test_a_promise_cannot_be_set_away(key_folder: KeyFolder, name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        settings_of("postgresql+psycopg://a@/b", key_folder, **{name: value})


def test_the_schema_is_brought_up_to_date(
    told: dict[str, str], empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", empty_database_url)

    assert [__main__.main(["migrate"]) for _ in range(2)] == [0, 0]


async def test_the_loops_end_when_they_are_told_to(database_url: DatabaseUrl, key_folder: KeyFolder) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(loops(settings_of(database_url("gateway"), key_folder), stop))
    stop.set()
    await asyncio.wait_for(running, 5)
