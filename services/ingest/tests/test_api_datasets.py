"""Datasets on the wire."""

from typing import Any

import httpx2
import pytest

SETTINGS: dict[str, Any] = {
    "columns": [{"name": "id", "type": "integer"}, {"name": "late", "type": "boolean"}],
    "nulls": ["NA"],
    "key": ["id"],
    "split": {"by": ["id"], "held_out": 0.3, "seed": 7},
    "checks": [{"column": "late", "check": "not_null"}],
    "policy": "quarantine",
}


async def test_a_dataset_is_created_and_read_back(client: httpx2.AsyncClient) -> None:
    made = await client.post("/v1/datasets", json={"name": "flights", "settings": SETTINGS})
    assert (made.status_code, made.headers["location"]) == (201, "/v1/datasets/flights")
    read = await client.get("/v1/datasets/flights")
    assert read.json() == made.json()
    assert read.headers["etag"] == made.headers["etag"]
    assert read.json()["settings"] == SETTINGS
    assert set(read.json()) == {"name", "settings", "created_at", "updated_at"}


async def test_a_name_is_taken_once(client: httpx2.AsyncClient) -> None:
    await client.post("/v1/datasets", json={"name": "flights"})
    again = await client.post("/v1/datasets", json={"name": "flights"})
    assert (again.status_code, again.json()["code"]) == (409, "dataset-exists")


async def test_the_same_request_again_is_the_same_answer(client: httpx2.AsyncClient) -> None:
    headers = {"idempotency-key": "one"}
    first = await client.post("/v1/datasets", json={"name": "flights"}, headers=headers)
    again = await client.post("/v1/datasets", json={"name": "flights"}, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    other = await client.post("/v1/datasets", json={"name": "trains"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({}, "#/name"),
    "a name that is none": ({"name": "Flights!"}, "#/name"),
    "a path as a name": ({"name": "a..b"}, "#/name"),
    "an unknown member": ({"name": "flights", "colour": "red"}, "#/colour"),
    "settings that make no sense": (
        {"name": "flights", "settings": {"key": ["a", "a"]}},
        "#/settings",
    ),
    "an unknown type": (
        {"name": "flights", "settings": {"columns": [{"name": "a", "type": "float"}]}},
        "#/settings/columns/0/type",
    ),
    "a number as a text": (
        {"name": "flights", "settings": {"split": {"by": ["a"], "held_out": "0.5"}}},
        "#/settings/split/HashSplit/held_out",
    ),
}


@pytest.mark.parametrize(("body", "pointer"), BAD.values(), ids=BAD.keys())
async def test_what_makes_no_dataset_is_told_with_its_place(
    client: httpx2.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    refused = await client.post("/v1/datasets", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation-failed")
    assert pointer in [place["pointer"] for place in refused.json()["errors"]]
    assert (await client.get("/v1/datasets")).json()["items"] == []


@pytest.mark.parametrize("body", [b'{"name": NaN}', b'{"name": "a", "name": "b"}', b'{"name": "a\\u0000"}', b"{"])
async def test_what_is_no_strict_json_is_malformed(client: httpx2.AsyncClient, body: bytes) -> None:
    refused = await client.post("/v1/datasets", content=body, headers={"content-type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed-request")


async def test_datasets_are_listed_in_pages(client: httpx2.AsyncClient) -> None:
    for name in ("c", "a", "b"):
        await client.post("/v1/datasets", json={"name": name})
    first = (await client.get("/v1/datasets", params={"page_size": 2})).json()
    assert [item["name"] for item in first["items"]] == ["a", "b"]
    rest = (await client.get("/v1/datasets", params={"page_token": first["next_page_token"]})).json()
    assert ([item["name"] for item in rest["items"]], rest["next_page_token"]) == (["c"], None)
    refused = await client.get("/v1/datasets", params={"page_token": "***"})
    assert (refused.status_code, refused.json()["code"]) == (422, "page-token-invalid")


async def test_put_creates_and_changes_only_what_was_seen(client: httpx2.AsyncClient) -> None:
    made = await client.put("/v1/datasets/flights", json={"settings": {"nulls": ["NA"]}})
    assert made.status_code == 201
    blind = await client.put("/v1/datasets/flights", json={"settings": {"nulls": ["-"]}})
    assert (blind.status_code, blind.json()["code"]) == (428, "if-match-missing")
    seen = {"if-match": made.headers["etag"]}
    changed = await client.put("/v1/datasets/flights", json={"settings": {"nulls": ["-"]}}, headers=seen)
    assert (changed.status_code, changed.json()["settings"]["nulls"]) == (200, ["-"])
    late = await client.put("/v1/datasets/flights", json={"settings": {"nulls": ["?"]}}, headers=seen)
    assert (late.status_code, late.json()["code"]) == (412, "changed")
    assert (await client.get("/v1/datasets/flights")).json()["settings"]["nulls"] == ["-"]


async def test_a_put_that_changes_nothing_makes_no_revision(client: httpx2.AsyncClient) -> None:
    made = await client.put("/v1/datasets/flights", json={"settings": SETTINGS})
    same = await client.put(
        "/v1/datasets/flights", json={"settings": SETTINGS}, headers={"if-match": made.headers["etag"]}
    )
    assert (same.status_code, same.json(), same.headers["etag"]) == (200, made.json(), made.headers["etag"])


async def test_a_change_of_what_is_gone_makes_nothing(client: httpx2.AsyncClient) -> None:
    answer = await client.put("/v1/datasets/flights", json={"settings": {}}, headers={"if-match": '"seen"'})
    assert (answer.status_code, answer.json()["code"]) == (412, "changed")
    assert (await client.get("/v1/datasets/flights")).status_code == 404


async def test_a_dataset_is_deleted(client: httpx2.AsyncClient) -> None:
    made = await client.post("/v1/datasets", json={"name": "flights"})
    other = await client.delete("/v1/datasets/flights", headers={"if-match": '"another"'})
    assert other.status_code == 412
    gone = await client.delete("/v1/datasets/flights", headers={"if-match": made.headers["etag"]})
    assert gone.status_code == 204
    assert (await client.get("/v1/datasets/flights")).status_code == 404
    assert (await client.delete("/v1/datasets/flights")).status_code == 404
    # Another dataset of the same name is not the one that was seen.
    anew = await client.post("/v1/datasets", json={"name": "flights"})
    assert anew.headers["etag"] != made.headers["etag"]


@pytest.mark.parametrize("name", ["Flights", "a%00b", "..", "%F0%9F%9A%82", "x" * 300, "a%2Fb"])
async def test_what_is_no_name_is_not_there(client: httpx2.AsyncClient, name: str) -> None:
    for path in (f"/v1/datasets/{name}", f"/v1/datasets/{name}/versions", f"/v1/datasets/{name}/versions/1"):
        assert (await client.get(path)).status_code == 404
