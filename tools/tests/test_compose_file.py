"""docker-compose.yml and the Dockerfiles, read without an engine."""

import importlib
import re
import stat
from pathlib import Path
from typing import Any

import compose_secrets
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICES = ("ingest", "registry", "trainer", "serving", "pipelines", "gateway")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILES = sorted([*ROOT.glob("services/*/*ockerfile"), *ROOT.glob("examples/*/Dockerfile")])


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_is_told_are_settings_that_it_has(service: str) -> None:
    # An unknown variable is ignored in silence: a mistake in its name would never be noticed.
    fields = importlib.import_module(f"{service}.settings").Settings.model_fields
    told = {name for name in COMPOSE["services"][service]["environment"] if not name.startswith("AWS_")}
    known = {f"{service}_{field}".upper() for field in fields}
    required = {f"{service}_{name}".upper() for name, field in fields.items() if field.is_required()}
    assert told <= known
    assert required - told <= {f"{service}_work_dir".upper()}, "and the image tells the folder"


def test_every_container_is_hardened() -> None:
    for name, it in COMPOSE["services"].items():
        assert it["read_only"], name
        assert it["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in it["security_opt"], name
        assert it["mem_limit"], name
        assert it["pids_limit"], name


def test_the_gateway_alone_is_published() -> None:
    assert [name for name, it in COMPOSE["services"].items() if "ports" in it] == ["gateway"]
    assert [name for name, it in COMPOSE["networks"].items() if not it.get("internal")] == ["front"]
    assert [name for name, it in COMPOSE["services"].items() if "front" in it.get("networks", [])] == ["gateway"]


def test_every_secret_that_is_asked_for_is_made() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert asked == set(compose_secrets.fresh())


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert compose_secrets.main([str(file)]) == 0
    first = compose_secrets.read(file)
    file.write_text(file.read_text().replace(f"VALKEY_PASSWORD={first['VALKEY_PASSWORD']}\n", "MINE=1\n"))
    assert compose_secrets.main([str(file)]) == 0
    second = compose_secrets.read(file)
    assert second.pop("MINE") == "1"
    assert second.pop("VALKEY_PASSWORD") != first.pop("VALKEY_PASSWORD")
    assert second == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda it: str(it.relative_to(ROOT)))
def test_every_image_is_of_one_shape(file: Path) -> None:
    text = file.read_text()
    assert "# syntax" not in text
    assert text.count("FROM ${BASE}") == len(re.findall("^FROM", text, re.MULTILINE)) == 2
    assert "--require-hashes --only-binary :all:" in text
    last = text.rpartition("FROM ")[2]
    for part in ("USER 65532:65532", "HEALTHCHECK", "ENTRYPOINT", "org.opencontainers.image.title", "PYTHONDONTWRITE"):
        assert part in last
    assert " pip " not in last


def test_an_image_that_cannot_be_pulled_is_built_from_this_checkout() -> None:
    ours = {it["image"] for it in COMPOSE["services"].values() if "TRAINYARD_REGISTRY" in it["image"]}
    built = [it for it in COMPOSE["services"].values() if "build" in it]
    assert ours == {it["image"] for it in built}
    assert len(ours) == len(built), "each is built once"
    for it in built:
        assert it["build"]["context"] == "."
        assert (ROOT / it["build"]["dockerfile"]).is_file()
