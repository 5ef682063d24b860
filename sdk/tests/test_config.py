"""Where the suite is, and who is asking."""

import json
from pathlib import Path

import pytest

from trainyard.config import Credentials, find_credentials
from trainyard.errors import NotConfigured


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    kept = {"url": "http://127.0.0.1:8080", "api_key": "ty_kept"}
    (tmp_path / "credentials.json").write_text(json.dumps(kept))
    return {"TRAINYARD_HOME": str(tmp_path)}


def test_what_trainyard_up_wrote_is_found(home: dict[str, str]) -> None:
    assert find_credentials(home) == Credentials("http://127.0.0.1:8080", "ty_kept")


def test_the_environment_wins_over_the_file(home: dict[str, str]) -> None:
    found = find_credentials(home | {"TRAINYARD_URL": "https://suite", "TRAINYARD_API_KEY": "ty_other"})
    assert found == Credentials("https://suite", "ty_other")


def test_arguments_win_over_the_environment() -> None:
    environment = {"TRAINYARD_URL": "https://suite", "TRAINYARD_API_KEY": "ty_other"}
    assert find_credentials(environment, "http://here", "ty_mine") == Credentials("http://here", "ty_mine")


def test_another_key_for_the_suite_of_the_file(home: dict[str, str]) -> None:
    found = find_credentials(home | {"TRAINYARD_API_KEY": "ty_viewer"})
    assert found == Credentials("http://127.0.0.1:8080", "ty_viewer")


def test_the_kept_key_never_goes_to_another_url(home: dict[str, str]) -> None:
    with pytest.raises(NotConfigured, match="no API key for https://elsewhere"):
        find_credentials(home | {"TRAINYARD_URL": "https://elsewhere"})


def test_the_same_url_with_a_slash_is_the_same_suite(home: dict[str, str]) -> None:
    assert find_credentials(home, "http://127.0.0.1:8080/").api_key == "ty_kept"


def test_nothing_configured_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="trainyard up"):
        find_credentials({"TRAINYARD_HOME": str(tmp_path)})


def test_a_url_without_a_key_says_which_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="TRAINYARD_API_KEY is not set"):
        find_credentials({"TRAINYARD_HOME": str(tmp_path), "TRAINYARD_URL": "https://suite"})


@pytest.mark.parametrize("text", ["", "{}", "[]", "{"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "credentials.json").write_text(text)
    with pytest.raises(NotConfigured, match=r"credentials\.json cannot be read"):
        find_credentials({"TRAINYARD_HOME": str(tmp_path)})


def test_a_key_is_not_in_a_traceback() -> None:
    assert "ty_secret" not in repr(Credentials("http://suite", "ty_secret"))
