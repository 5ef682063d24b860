"""`contracts/` holds what was released: the services keep it, and the gateway passes it on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compatibility import VERBS, breaks
from houses import House

from gateway.domain.openapi import merge
from gateway.domain.requests import service_of
from kit.testing import SERVICES

CONTRACTS = Path(__file__).parents[2] / "contracts"


def released(service: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((CONTRACTS / f"{service}.openapi.json").read_text())
    return document


@pytest.mark.parametrize("service", SERVICES)
async def test_no_promise_to_clients_is_broken(house: House, service: str) -> None:
    assert breaks(released(service), house.app(service).openapi()) == []


@pytest.mark.parametrize("service", [service for service in SERVICES if service != "gateway"])
def test_the_gateway_passes_on_everything_that_is_promised(service: str) -> None:
    lost = [path for path in released(service)["paths"] if service_of(path) != service]
    assert lost == []


def test_the_gateway_answers_its_own_routes_itself() -> None:
    assert [path for path in released("gateway")["paths"] if service_of(path) is not None] == []


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/openapi.json", "/internal/v1/events"])
def test_what_is_not_for_users_leaves_no_gateway(path: str) -> None:
    assert service_of(path) is None
    assert all(path not in released(service)["paths"] for service in SERVICES)


def test_one_document_holds_all_of_them_and_names_nothing_twice() -> None:
    documents = {service: released(service) for service in SERVICES}
    document = merge(documents, version="1")
    assert set(document["paths"]) == {path for it in documents.values() for path in it["paths"]}
    operations = [item[verb]["operationId"] for item in document["paths"].values() for verb in VERBS if verb in item]
    assert len(operations) == len(set(operations))
    known = {f"#/components/{kind}/{name}" for kind, named in document["components"].items() for name in named}
    assert set(references(document)) <= known


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    if isinstance(value, list):
        for member in value:
            yield from references(member)
