"""Versions on the wire: made of bodies and uploads, waited for, read and deleted."""

import asyncio
import gzip
import hashlib
import io
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from replicas_at_work import ReplicaOf

from ingest.settings import Settings
from kit.app import Service
from kit.testing import KeyFolder, client_of, eventually
from kit.testing_objects import Objects

CSV = {"content-type": "text/csv"}
ROWS = b"id,name,at\n1,ann,2020-01-01T00:00:00Z\n2,bob,\nx,carl,\n4,dora,2020-02-29T12:00:00.5Z\n"
SETTINGS: dict[str, Any] = {
    "columns": [
        {"name": "id", "type": "integer"},
        {"name": "name", "type": "string"},
        {"name": "at", "type": "timestamp"},
    ],
    "key": ["id"],
    "split": {"held_out": 0.5, "seed": 3},
}
VERSIONS = "/v1/datasets/people/versions"


@pytest.fixture
async def people(client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """With a dataset."""
    await client.post("/v1/datasets", json={"name": "people", "settings": SETTINGS})
    return client


@pytest.fixture
async def ready(people: httpx2.AsyncClient, replica_of: ReplicaOf) -> httpx2.AsyncClient:
    """With a version that is ready."""
    await people.post(VERSIONS, content=ROWS, headers=CSV)
    assert await replica_of().run() == 1
    return people


async def test_a_body_becomes_a_version(people: httpx2.AsyncClient, replica_of: ReplicaOf) -> None:
    made = await people.post(VERSIONS, content=ROWS, headers=CSV)
    assert (made.status_code, made.headers["location"]) == (202, f"{VERSIONS}/1")
    assert (made.json()["status"]["phase"], made.json()["digest"]) == ("pending", None)
    await replica_of().run()
    version = (await people.get(f"{VERSIONS}/1")).json()
    assert version["status"] == {"phase": "ready", "reason": "", "message": ""}
    assert version["schema"] == SETTINGS["columns"]
    assert (version["rows_in"], version["rows"], version["rejected"], version["coerced"]) == (4, 3, 1, 0)
    assert sum(version["splits"].values()) == 3
    assert version["settings"]["key"] == ["id"]
    assert version["source"] == {
        "upload": f"sha256:{hashlib.sha256(ROWS).hexdigest()}",
        "format": "csv",
        "compression": None,
    }
    assert version["digest"].startswith("sha256:")
    assert version["finished_at"] > version["created_at"]


def parquet() -> bytes:
    out = io.BytesIO()
    table = pa.table({"id": [1, 2], "name": ["ann", None], "at": pa.array([0, None], pa.timestamp("us", "UTC"))})
    pq.write_table(table, out)
    return out.getvalue()


LINES = b'{"id": 1, "name": "ann", "at": "1970-01-01T00:00:00Z"}\n{"id": 2}\n'
BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "csv": (b"id,name,at\n1,ann,1970-01-01T00:00:00Z\n2,,\n", {"content-type": "text/csv; charset=utf-8"}),
    "gzip": (
        gzip.compress(b"id,name,at\n1,ann,1970-01-01T00:00:00Z\n2,,\n"),
        {"content-type": "text/csv", "content-encoding": "gzip"},
    ),
    "ndjson": (LINES, {"content-type": "application/x-ndjson"}),
    "zstd": (
        pa.compress(LINES, codec="zstd", asbytes=True),
        {"content-type": "application/jsonl", "content-encoding": "zstd"},
    ),
    "parquet": (parquet(), {"content-type": "application/vnd.apache.parquet"}),
}


@pytest.mark.parametrize(("body", "headers"), BODIES.values(), ids=BODIES.keys())
async def test_every_format_gives_the_same_rows(
    people: httpx2.AsyncClient, replica_of: ReplicaOf, body: bytes, headers: dict[str, str]
) -> None:
    assert (await people.post(VERSIONS, content=body, headers=headers)).status_code == 202
    await replica_of().run()
    rows = (await people.get(f"{VERSIONS}/latest/rows")).json()["items"]
    assert sorted(rows, key=lambda row: row["id"]) == [
        {"id": 1, "name": "ann", "at": "1970-01-01T00:00:00Z"},
        {"id": 2, "name": None, "at": None},
    ]


async def test_an_upload_becomes_a_version(people: httpx2.AsyncClient, replica_of: ReplicaOf) -> None:
    upload = (await people.post("/v1/uploads", content=gzip.compress(ROWS))).json()["upload"]
    body = {"upload": upload, "format": "csv", "compression": "gzip"}
    made = await people.post(VERSIONS, json=body)
    assert (made.status_code, made.json()["source"]) == (202, body)
    await replica_of().run()
    assert (await people.get(f"{VERSIONS}/1")).json()["status"]["phase"] == "ready"


async def test_the_same_bytes_and_settings_are_the_same_version(
    ready: httpx2.AsyncClient, replica_of: ReplicaOf, settings: Settings
) -> None:
    before = sorted(await _objects(replica_of))
    again = await ready.post(VERSIONS, content=ROWS, headers=CSV)
    assert (again.status_code, again.headers["location"]) == (202, f"{VERSIONS}/1")
    assert (again.json()["version"], again.json()["reused_from"]) == (1, 1)
    assert again.json()["status"]["phase"] == "ready"
    assert await replica_of().run() == 0
    assert sorted(await _objects(replica_of)) == before


async def test_the_same_rows_in_another_wrapping_have_the_same_digest_and_objects(
    ready: httpx2.AsyncClient, replica_of: ReplicaOf
) -> None:
    first = (await ready.get(f"{VERSIONS}/1")).json()
    before = set(await _objects(replica_of))
    packed = gzip.compress(ROWS)
    await ready.post(VERSIONS, content=packed, headers={**CSV, "content-encoding": "gzip"})
    await replica_of().run()
    second = (await ready.get(f"{VERSIONS}/2")).json()
    assert second["digest"] == first["digest"]
    assert set(await _objects(replica_of)) - before == {f"sha256:{hashlib.sha256(packed).hexdigest()}"}
    assert (await ready.get(f"{VERSIONS}/{first['digest']}")).json()["version"] == 2


async def _objects(replica_of: ReplicaOf) -> list[str]:
    return [found.digest or found.key async for page in replica_of().store.blobs() for found in page]


async def test_other_settings_make_another_version(ready: httpx2.AsyncClient, replica_of: ReplicaOf) -> None:
    seen = (await ready.get("/v1/datasets/people")).headers["etag"]
    await ready.put("/v1/datasets/people", json={"settings": {"nulls": ["x", ""]}}, headers={"if-match": seen})
    made = await ready.post(VERSIONS, content=ROWS, headers=CSV)
    assert (made.json()["version"], made.json()["reused_from"]) == (2, None)
    await replica_of().run()
    first, second = [(await ready.get(f"{VERSIONS}/{n}")).json() for n in (1, 2)]
    assert (first["rejected"], second["rejected"]) == (1, 0)
    assert first["digest"] != second["digest"]


async def test_a_key_sent_again_is_answered_again(people: httpx2.AsyncClient) -> None:
    headers = {**CSV, "idempotency-key": "one"}
    first = await people.post(VERSIONS, content=ROWS, headers=headers)
    again = await people.post(VERSIONS, content=ROWS, headers=headers)
    assert (again.status_code, again.content, again.headers["location"]) == (202, first.content, f"{VERSIONS}/1")
    other = await people.post(VERSIONS, content=b"id,name,at\n1,ann,\n", headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert len((await people.get(VERSIONS)).json()["items"]) == 1


async def test_requests_at_one_time_make_one_version(people: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(people.post(VERSIONS, content=ROWS, headers=CSV) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [202] * 5
    assert {answer.json()["version"] for answer in answers} == {1}
    assert sum(answer.json()["reused_from"] is None for answer in answers) == 1


async def test_a_version_is_waited_for(people: httpx2.AsyncClient, replica_of: ReplicaOf) -> None:
    await people.post(VERSIONS, content=ROWS, headers=CSV)
    waits = asyncio.create_task(people.get(f"{VERSIONS}/1", params={"wait": "30s"}))
    await replica_of().run()
    assert (await asyncio.wait_for(waits, 5)).json()["status"]["phase"] == "ready"


async def test_versions_are_listed_the_newest_first(people: httpx2.AsyncClient) -> None:
    for number in range(3):
        await people.post(VERSIONS, content=f"id,name,at\n{number},a,\n".encode(), headers=CSV)
    first = (await people.get(VERSIONS, params={"page_size": 2})).json()
    assert [item["version"] for item in first["items"]] == [3, 2]
    rest = (await people.get(VERSIONS, params={"page_token": first["next_page_token"]})).json()
    assert ([item["version"] for item in rest["items"]], rest["next_page_token"]) == ([1], None)


async def test_rows_come_in_pages_and_by_side(ready: httpx2.AsyncClient) -> None:
    found: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while True:
        page = (await ready.get(f"{VERSIONS}/1/rows", params={"page_size": 1, **token})).json()
        found += page["items"]
        if page["next_page_token"] is None:
            break
        token = {"page_token": page["next_page_token"]}
    assert {row["id"] for row in found} == {1, 2, 4}
    assert len(found) == 3
    assert {"id": 4, "name": "dora", "at": "2020-02-29T12:00:00.500000Z"} in found
    sides = [
        (await ready.get(f"{VERSIONS}/1/rows", params={"split": s})).json()["items"] for s in ("train", "held_out")
    ]
    assert [*sides[0], *sides[1]] == found
    counts = (await ready.get(f"{VERSIONS}/1")).json()["splits"]
    assert counts == {"train": len(sides[0]), "held_out": len(sides[1])}


async def test_rejects_say_line_and_reason(ready: httpx2.AsyncClient) -> None:
    page = (await ready.get(f"{VERSIONS}/1/rejects")).json()
    assert page == {
        "items": [
            {
                "line": 4,
                "column": "id",
                "reason": "type",
                "detail": "'x' is not a whole number of 64 bits.",
                "raw": "x,carl,",
            }
        ],
        "next_page_token": None,
    }


async def test_the_profile_is_there(ready: httpx2.AsyncClient) -> None:
    profile = (await ready.get(f"{VERSIONS}/1/profile")).json()
    assert (profile["rows"], [column["name"] for column in profile["columns"]]) == (3, ["id", "name", "at"])


async def test_shards_are_what_their_digests_say(ready: httpx2.AsyncClient) -> None:
    version = (await ready.get(f"{VERSIONS}/1")).json()
    listed = (await ready.get(f"{VERSIONS}/latest/shards")).json()
    assert (listed["digest"], listed["schema"]) == (version["digest"], version["schema"])
    rows = 0
    for shard in listed["shards"]:
        answer = await ready.get(f"{VERSIONS}/1/shards/{shard['digest']}")
        assert answer.headers["content-type"] == "application/vnd.apache.parquet"
        assert answer.headers["etag"] == f'"{shard["digest"]}"'
        assert f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == shard["digest"]
        assert len(answer.content) == shard["size"]
        rows += pq.read_table(io.BytesIO(answer.content)).num_rows
    assert rows == version["rows"]
    missing = await ready.get(f"{VERSIONS}/1/shards/sha256:{'0' * 64}")
    assert (missing.status_code, missing.json()["code"]) == (404, "shard-not-found")


async def test_a_damaged_shard_is_no_answer(ready: httpx2.AsyncClient, settings: Settings) -> None:
    [shard, *_] = (await ready.get(f"{VERSIONS}/1/shards")).json()["shards"]
    key = shard["digest"].removeprefix("sha256:")
    Objects(settings.objects_url).damage(f"blobs/ingest/blue/sha256/{key[:2]}/{key}")
    answer = await ready.get(f"{VERSIONS}/1/shards/{shard['digest']}")
    assert (answer.status_code, answer.json()["code"]) == (502, "artifact-corrupt")
    assert (await ready.get(f"{VERSIONS}/1/rows")).status_code == 502


async def test_a_version_under_way_has_nothing_to_show(people: httpx2.AsyncClient) -> None:
    await people.post(VERSIONS, content=ROWS, headers=CSV)
    for path in ("profile", "rejects", "rows", "shards", f"shards/sha256:{'0' * 64}"):
        answer = await people.get(f"{VERSIONS}/1/{path}")
        assert (answer.status_code, answer.json()["code"]) == (409, "version-not-ready"), path
    assert (await people.get(f"{VERSIONS}/latest")).status_code == 404


async def test_a_failed_version_shows_why(people: httpx2.AsyncClient, replica_of: ReplicaOf) -> None:
    await people.post(VERSIONS, content=b"id,name,at\nx,ann,\ny,bob,\n", headers=CSV)
    await replica_of().run()
    version = (await people.get(f"{VERSIONS}/1")).json()
    assert (version["status"]["phase"], version["status"]["reason"]) == ("failed", "no-rows")
    assert "Line 2, id: 'x' is not a whole number" in version["status"]["message"]
    assert (version["digest"], version["rejected"], version["rows"]) == (None, 2, 0)
    rejects = (await people.get(f"{VERSIONS}/1/rejects")).json()["items"]
    assert [item["line"] for item in rejects] == [2, 3]
    assert (await people.get(f"{VERSIONS}/1/rows")).json()["items"] == []
    for path in ("profile", "shards"):
        assert (await people.get(f"{VERSIONS}/1/{path}")).status_code == 409
    # A failure is not what these bytes are for ever: it is tried anew.
    again = await people.post(VERSIONS, content=b"id,name,at\nx,ann,\ny,bob,\n", headers=CSV)
    assert (again.json()["version"], again.json()["reused_from"]) == (2, None)


async def test_a_version_is_deleted_and_its_number_stays_taken(ready: httpx2.AsyncClient) -> None:
    assert (await ready.delete(f"{VERSIONS}/1")).status_code == 204
    assert (await ready.get(f"{VERSIONS}/1")).status_code == 404
    assert (await ready.delete(f"{VERSIONS}/1")).status_code == 404
    made = await ready.post(VERSIONS, content=ROWS, headers=CSV)
    assert (made.json()["version"], made.json()["reused_from"]) == (2, None)


async def test_a_version_is_deleted_by_its_number_alone(ready: httpx2.AsyncClient) -> None:
    """Sent again after a lost answer, a name that moves would be the next version's."""
    digest = (await ready.get(f"{VERSIONS}/1")).json()["digest"]
    for reference in ("latest", digest, "0", "newest"):
        refused = await ready.delete(f"{VERSIONS}/{reference}")
        assert (refused.status_code, refused.json()["code"]) == (422, "version-number-needed")
    assert (await ready.get(f"{VERSIONS}/latest")).json()["version"] == 1


async def test_what_is_held_is_not_deleted(ready: httpx2.AsyncClient, app: Service, key_folder: KeyFolder) -> None:
    digest = (await ready.get(f"{VERSIONS}/1")).json()["digest"]
    hold = {"noun": "dataset-version", "ref": "people@1", "holder": "job:1"}
    async with client_of(app, key_folder.headers("ingest", issuer="trainer", project="blue")) as trainer:
        for ref in ("people", "people@1", f"people@{digest}"):
            held = await trainer.put("/internal/v1/holds", json={**hold, "ref": ref})
            assert (held.status_code, held.json()) == (200, hold)
        for path in (f"{VERSIONS}/1", "/v1/datasets/people"):
            refused = await ready.delete(path)
            assert refused.status_code == 409
            assert refused.json()["code"] in ("version-held", "dataset-held")
            assert (refused.json()["used_by"], "job:1" in refused.json()["detail"]) == (["job:1"], True)
        assert (await ready.get(f"{VERSIONS}/1/rows")).status_code == 200
        assert (await trainer.delete("/internal/v1/holds", params=hold)).status_code == 204
        assert (await ready.delete(f"{VERSIONS}/1")).status_code == 204
        gone = await trainer.put("/internal/v1/holds", json=hold)
        assert (gone.status_code, gone.json()["code"]) == (404, "version-not-found")
        other = await trainer.put("/internal/v1/holds", json={**hold, "noun": "model"})
        assert other.status_code == 404


async def test_what_is_not_ready_is_not_held(people: httpx2.AsyncClient, app: Service, key_folder: KeyFolder) -> None:
    await people.post(VERSIONS, content=ROWS, headers=CSV)
    async with client_of(app, key_folder.headers("ingest", issuer="trainer", project="blue")) as trainer:
        hold = {"noun": "dataset-version", "ref": "people@1", "holder": "job:1"}
        refused = await trainer.put("/internal/v1/holds", json=hold)
    assert (refused.status_code, refused.json()["code"]) == (409, "version-not-ready")


async def test_others_hear_of_it(
    people: httpx2.AsyncClient, app: Service, key_folder: KeyFolder, replica_of: ReplicaOf
) -> None:
    await people.post(VERSIONS, content=ROWS, headers=CSV)
    await people.post(VERSIONS, content=b"", headers=CSV)
    await people.post(VERSIONS, content=b"what?\n1\n", headers=CSV)
    await replica_of().run()
    await people.delete(f"{VERSIONS}/1")
    async with client_of(app, key_folder.headers("ingest", issuer="pipelines")) as pipelines:

        async def all_seen() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await pipelines.get("/internal/v1/events")).json()["events"]
            return found if len(found) == 3 else []

        seen = {(event["kind"], event["subject"]): event for event in await eventually(all_seen)}
    assert set(seen) == {
        ("dataset.version.ready", "people@1"),
        ("dataset.version.failed", "people@2"),
        ("dataset.version.deleted", "people@1"),
    }
    ready = seen["dataset.version.ready", "people@1"]
    assert (ready["project"], ready["data"]["version"], ready["data"]["dataset"]) == ("blue", 1, "people")
    assert ready["data"]["digest"].startswith("sha256:")
    assert seen["dataset.version.failed", "people@2"]["data"]["reason"] == "missing-column"


async def test_a_shard_can_be_had_by_a_url_without_a_key_and_in_ranges(app: Service, ready: httpx2.AsyncClient) -> None:
    [shard, *_] = (await ready.get(f"{VERSIONS}/1/shards")).json()["shards"]
    path = f"{VERSIONS}/1/shards/{shard['digest']}"
    whole = await ready.get(path)
    assert whole.headers["content-type"] == "application/vnd.apache.parquet"
    assert (await ready.head(path)).headers["content-length"] == str(shard["size"])
    url = (await ready.get(f"{path}/url")).json()["url"]
    async with client_of(app) as stranger:
        assert (await stranger.get(path)).status_code == 401
        assert (await stranger.get(url)).content == whole.content
        tail = await stranger.get(url, headers={"range": "bytes=-4"})
    assert (tail.status_code, tail.content) == (206, b"PAR1")
