"""Models that were made elsewhere: their files and versions, as users send them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from model_files import SOUND, onnx, pt2, safetensors
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import tables
from kit.app import Service
from kit.blobs import BlobStore, collect
from kit.callers import Role
from kit.testing import client_of
from kit.testing_objects import Objects
from registry.app import create_app
from registry.settings import Settings
from registry.testing import Headers, Trainer, code_of, digest_of, manifest_of

MODEL = "/v1/models/digits"
VERSIONS, BLOBS = f"{MODEL}/versions", f"{MODEL}/blobs"
ONNX = SOUND["onnx"]
NOW = timedelta(0)
TENSORS = {
    "task": "tensors",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
    "classes": [],
}


def file_of(data: bytes, format: str = "onnx", **changes: Any) -> dict[str, Any]:
    return {"format": format, "path": f"model.{format}", "digest": digest_of(data), "size": len(data)} | changes


def push_of(data: bytes = ONNX, format: str = "onnx", **changes: Any) -> dict[str, Any]:
    return {"formats": [file_of(data, format)], "signature": TENSORS} | changes


async def put(http: httpx2.AsyncClient, data: bytes = ONNX, digest: str | None = None, **more: Any) -> httpx2.Response:
    return await http.put(f"{BLOBS}/{digest or digest_of(data)}", content=data, **more)


async def push(http: httpx2.AsyncClient, data: bytes = ONNX, format: str = "onnx", **more: Any) -> httpx2.Response:
    """The file, and a version of it."""
    headers = more.pop("headers", {})
    assert (await put(http, data)).status_code in (200, 201)
    return await http.post(VERSIONS, json=push_of(data, format, **more), headers=headers)


async def rows(engine: AsyncEngine, table: sa.Table) -> int:
    async with engine.begin() as connection:
        return int((await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one())


async def test_a_file_is_taken_once_and_said_to_be_there(users: httpx2.AsyncClient, store: BlobStore) -> None:
    path = f"{BLOBS}/{digest_of(ONNX)}"
    assert code_of(await users.get(path)) == (404, "blob-not-found")
    said = {"digest": digest_of(ONNX), "size": len(ONNX)}
    for status in (201, 200):
        answer = await put(users)
        assert (answer.status_code, answer.json()) == (status, said)
    assert (await users.get(path)).json() == said
    assert await store.read("demo", digest_of(ONNX)) == ONNX


async def test_a_version_is_what_was_said_of_it(users: httpx2.AsyncClient) -> None:
    more: dict[str, Any] = {
        "metrics": {"accuracy": 0.97},
        "parameters": {"epochs": 3},
        "input_example": [{"x": [1, 2, 3, 4]}],
        "lineage": {"source": "notebook 7"},
    }
    made = await push(users, **more)
    assert (made.status_code, made.headers["location"]) == (201, f"{VERSIONS}/1")
    version = made.json()
    formats = [file_of(ONNX, origin="user")]
    said = {"formats": formats, "signature": TENSORS, "task": "tensors", "twin": None, "model": "digits", "version": 1}
    lineage = {"source": "notebook 7", "by": "ada"}
    assert version == version | more | said | {"lineage": lineage}
    for reference in ("1", "latest", version["digest"]):
        assert (await users.get(f"{VERSIONS}/{reference}")).json() == version
    assert (await users.get(VERSIONS)).json()["items"] == [version]
    assert (await users.get(f"{VERSIONS}/1/files/model.onnx")).content == ONNX
    shown = (await users.get(f"{VERSIONS}/1/lineage")).json()
    names = {name: version[name] for name in ("model", "version", "digest")}
    assert shown == names | lineage | {"at": version["created_at"]}


async def test_the_same_again_is_the_version_that_is_there(users: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    first = await push(users)
    again = await push(users, metrics={"accuracy": 0.5}, lineage={"source": "elsewhere"})
    assert (again.status_code, again.json()) == (200, first.json())
    assert (await push(users, parameters={"other": True})).json()["version"] == 2
    assert await rows(engine, tables.blobs) == 1


async def test_every_format_can_be_pushed(users: httpx2.AsyncClient) -> None:
    architecture = {"architecture": {"name": "mlp", "sizes": [4, 4], "activation": "relu"}}
    for format, data in SOUND.items():
        made = await push(users, data, format, parameters=architecture)
        assert (made.status_code, made.json()["formats"][0]["format"]) == (201, format)


async def test_a_tabular_signature_is_taken_too(users: httpx2.AsyncClient) -> None:
    signature, example = manifest_of()["signature"], [{"carrier": "UA"}]
    made = await push(users, SOUND["skops"], "skops", signature=signature, input_example=example)
    assert (made.status_code, made.json()["task"]) == (201, "classification")
    assert made.json()["signature"] == signature


async def test_what_a_user_pushed_is_another_version_than_what_a_job_made_of_the_same_bytes(
    trainer: Trainer, headers: Headers
) -> None:
    data = SOUND["skops"]
    signature = manifest_of()["signature"]
    await trainer.upload(data)
    assert (await trainer.register("digits", manifest=manifest_of(data))).status_code == 201
    trainer.http.headers.update(headers())
    made = await push(trainer.http, data, "skops", signature=signature, parameters=manifest_of()["parameters"])
    assert (made.status_code, made.json()["version"]) == (201, 2)
    assert [file["origin"] for file in made.json()["formats"]] == ["user"]


async def test_the_trainer_says_nothing_of_users(trainer: Trainer) -> None:
    await trainer.upload()
    manifest = manifest_of()
    refused = await trainer.register(manifest=manifest | {"lineage": {"source": "", "by": "ada"}})
    assert code_of(refused) == (422, "validation-failed")
    manifest["formats"][0]["origin"] = "user"
    assert code_of(await trainer.register(manifest=manifest)) == (422, "validation-failed")


async def test_a_key_is_good_for_one_version(users: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    key = {"idempotency-key": "k1"}
    first = await push(users, headers=key)
    again = await users.post(VERSIONS, json=push_of(), headers=key)
    assert (again.status_code, again.json(), again.headers["location"]) == (201, first.json(), f"{VERSIONS}/1")
    assert again.headers["idempotent-replayed"] == "true"
    other = await users.post(VERSIONS, json=push_of(parameters={"a": 1}), headers=key)
    assert code_of(other) == (422, "idempotency-key-reused")
    missing = await users.post(VERSIONS, json=push_of(b"never sent"), headers={"idempotency-key": "k2"})
    assert code_of(missing) == (422, "file-not-uploaded")
    assert await rows(engine, tables.idempotency_keys) == 1


async def test_what_was_answered_is_answered_so_again_when_the_bytes_are_gone(
    users: httpx2.AsyncClient, engine: AsyncEngine, store: BlobStore
) -> None:
    key = {"idempotency-key": "k1"}
    first = await push(users, headers=key)
    await users.delete(f"{VERSIONS}/1")
    for _ in range(3):
        await collect(engine, store, grace=NOW, settle=NOW, stale=NOW)
    assert (await users.post(VERSIONS, json=push_of(), headers=key)).json() == first.json()


async def test_it_is_told_and_kept_who_did_it(users: httpx2.AsyncClient, headers: Headers) -> None:
    version = (await push(users)).json()
    feed = (await users.get("/internal/v1/events", headers=headers(issuer="serving"))).json()["events"]
    data = {"model": "digits", "version": 1, "digest": version["digest"]}
    assert [(it["kind"], it["subject"], it["data"]) for it in feed] == [("model.version.registered", "digits@1", data)]
    entries = (await users.get("/internal/v1/audit", headers=headers(role=Role.ADMIN))).json()["items"]
    done = [(entry["action"], entry["noun"], entry["name"], entry["subject"]) for entry in reversed(entries)]
    assert done == [("create", "model", "digits", "ada"), ("create", "model-version", "digits@1", "ada")]


async def test_what_is_used_stays_and_what_nobody_needs_goes(
    users: httpx2.AsyncClient, engine: AsyncEngine, store: BlobStore, headers: Headers, objects_url: str
) -> None:
    await push(users)
    body = {"noun": "model-version", "ref": "digits@1", "holder": "deployment:d"}
    assert (await users.put("/internal/v1/holds", json=body, headers=headers(issuer="serving"))).status_code == 200
    assert code_of(await users.delete(f"{VERSIONS}/1")) == (409, "version-in-use")
    unused = onnx(seed=1)
    await put(users, unused)
    await collect(engine, store)  # within a day, all stays
    assert len(Objects(objects_url).keys()) == 2
    for _ in range(3):
        await collect(engine, store, grace=NOW, settle=NOW, stale=NOW)
    assert len(Objects(objects_url).keys()) == 1
    assert (await users.get(f"{BLOBS}/{digest_of(ONNX)}")).status_code == 200
    assert (await users.get(f"{BLOBS}/{digest_of(unused)}")).status_code == 404


# Who may


async def test_a_viewer_looks_and_changes_nothing(users: httpx2.AsyncClient, headers: Headers) -> None:
    await push(users)
    users.headers.update(headers(role=Role.VIEWER))
    for refused in (await put(users), await users.post(VERSIONS, json=push_of())):
        assert code_of(refused) == (403, "role-too-low")
    assert (await users.get(f"{BLOBS}/{digest_of(ONNX)}")).status_code == 200


async def test_strangers_get_nowhere(app: Service, engine: AsyncEngine) -> None:
    async with client_of(app) as stranger:
        answers = [await put(stranger), await stranger.post(VERSIONS, json=push_of())]
        answers.append(await stranger.get(f"{BLOBS}/{digest_of(ONNX)}"))
    assert [answer.status_code for answer in answers] == [401, 401, 401]


async def test_another_projects_files_and_versions_are_not_there(users: httpx2.AsyncClient, headers: Headers) -> None:
    await push(users)
    users.headers.update(headers(project="red"))
    assert code_of(await users.get(f"{BLOBS}/{digest_of(ONNX)}")) == (404, "blob-not-found")
    assert code_of(await users.post(VERSIONS, json=push_of())) == (422, "file-not-uploaded")
    for path in ("", "/versions", "/versions/1", "/versions/1/lineage", "/versions/1/files/model.onnx"):
        assert (await users.get(f"{MODEL}{path}")).status_code == 404
    assert (await users.delete(f"{VERSIONS}/1")).status_code == 404


# What is refused


@pytest.mark.parametrize(
    "data", [b"\x80\x04}.", b"\x80\x05" + b"x" * 9000, b"\x1f\x8b", b"\x89HDF\r\n\x1a\n" + b"x" * 5000]
)
async def test_pickles_and_their_like_are_not_even_taken_in(
    users: httpx2.AsyncClient, engine: AsyncEngine, objects_url: str, data: bytes
) -> None:
    refused = await put(users, data)
    assert code_of(refused) == (422, "unsafe-model")
    assert "onnx" in refused.json()["formats"]
    assert (await rows(engine, tables.blobs), Objects(objects_url).keys()) == (0, [])


async def test_a_pickle_in_an_archive_makes_no_version(users: httpx2.AsyncClient) -> None:
    data = pt2(data__weights__x=b"").replace(b"data/weights/x", b"data/weightpkl").replace(b"weightpkl", b"weigh.pkl")
    refused = await push(users, data, "pt2")
    assert code_of(refused) == (422, "unsafe-model")
    assert (await users.get("/v1/models")).json()["items"] == []


async def test_a_file_must_be_what_its_format_says(users: httpx2.AsyncClient) -> None:
    for format in {*SOUND} - {"onnx"}:
        refused = await push(users, ONNX, format, parameters={"architecture": {"name": "mlp"}})
        assert code_of(refused) == (422, "format-mismatch")
        assert refused.json()["errors"][0]["pointer"] == "#/formats/0/format"
    assert (await users.get("/v1/models")).json()["items"] == []


async def test_an_onnx_file_that_is_none_makes_no_version(users: httpx2.AsyncClient) -> None:
    for data in (b"", ONNX[:-1], ONNX + b"\xff", b"\0" * 100):
        assert code_of(await push(users, data)) == (422, "format-mismatch")


async def test_sizes_and_digests_that_lie_are_refused(users: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    assert code_of(await put(users, b"other", digest_of(ONNX))) == (422, "digest-mismatch")
    assert await rows(engine, tables.blobs) == 0
    await put(users)
    for size in (0, len(ONNX) - 1, len(ONNX) + 1, 2**39):
        refused = await users.post(VERSIONS, json=push_of(formats=[file_of(ONNX, size=size)]))
        assert code_of(refused) == (422, "file-size-wrong")
        assert refused.json()["errors"][0]["pointer"] == "#/formats/0/size"
    for wrong in (-1, 2**60, 1.5, "3", None):
        refused = await users.post(VERSIONS, json=push_of(formats=[file_of(ONNX, size=wrong)]))
        assert code_of(refused) == (422, "validation-failed")


async def test_no_path_leads_anywhere(users: httpx2.AsyncClient) -> None:
    for path in ("../m", "/etc/passwd", "a/b", "a\\b", "", ".", "..", "m\n", "m\x7f", "x" * 200, "ü"):
        refused = await users.post(VERSIONS, json=push_of(formats=[file_of(ONNX, path=path)]))
        assert code_of(refused) == (422, "validation-failed"), path


async def test_what_is_wrong_is_said_with_its_place(users: httpx2.AsyncClient) -> None:
    await put(users)
    for pointer, changes in {
        "#/formats/0/format": {"formats": [file_of(ONNX, "pickle")]},
        "#": {"formats": [file_of(ONNX), file_of(SOUND["skops"], "skops")]},
        "#/signature/task": {"signature": manifest_of()["signature"] | {"task": "dreams"}},
    }.items():
        refused = await users.post(VERSIONS, json=push_of(**changes))
        assert code_of(refused) == (422, "validation-failed")
        assert refused.json()["errors"][0]["pointer"] == pointer
    assert (await users.get("/v1/models")).json()["items"] == []


async def test_a_manifest_is_no_place_for_data(users: httpx2.AsyncClient) -> None:
    await put(users)
    large = await users.post(VERSIONS, json=push_of(parameters={"a": "x" * 600_000}))
    assert code_of(large) == (422, "manifest-too-large")
    assert code_of(await users.post(VERSIONS, json=push_of(parameters={"a": "x" * 1_100_000})))[0] == 413


JSON = {"content-type": "application/json"}


RAW: list[tuple[bytes, dict[str, str], int]] = [
    (b"{", JSON, 400),
    (b'{"a": NaN}', JSON, 400),
    (b'{"a": 1, "a": 2}', JSON, 400),
    (b"[" * 10_000, JSON, 400),
    (b"", JSON, 400),
    (b"{}", {"content-type": "text/plain"}, 415),
    (b"{}", {}, 415),
    (b"{}", JSON | {"content-encoding": "gzip"}, 415),
    (b"[]", JSON, 422),
    (b"{}", JSON, 422),
]


async def test_what_is_no_manifest_is_refused(users: httpx2.AsyncClient) -> None:
    for raw, said, status in RAW:
        assert code_of(await users.post(VERSIONS, content=raw, headers=said))[0] == status, raw


async def test_bodies_are_the_files_themselves(users: httpx2.AsyncClient) -> None:
    for headers in ({"content-encoding": "gzip"}, {"content-type": "multipart/form-data; boundary=x"}):
        assert code_of(await put(users, headers=headers)) == (415, "unsupported-media-type")
    too_much = b"x" * ((1 << 20) + 1)
    assert code_of(await put(users, too_much)) == (413, "content-too-large")

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(too_much), 1 << 18):
            yield too_much[start : start + (1 << 18)]

    streamed = await users.put(f"{BLOBS}/{digest_of(too_much)}", content=pieces())
    assert code_of(streamed) == (413, "content-too-large")


@pytest.mark.parametrize("name", ["Digits", "a b", "..", "x" * 64])
async def test_names_are_checked_before_anything_is_taken(users: httpx2.AsyncClient, name: str) -> None:
    for answer in (
        await users.put(f"/v1/models/{name}/blobs/{digest_of(ONNX)}", content=ONNX),
        await users.post(f"/v1/models/{name}/versions", json=push_of()),
    ):
        assert answer.status_code in (404, 405, 422)


# Many at once


async def test_two_clients_send_the_same_file_and_version_at_once(
    app: Service, users: httpx2.AsyncClient, settings: Settings, headers: Headers, engine: AsyncEngine, objects_url: str
) -> None:
    async with client_of(create_app(settings), headers()) as other:
        both = [users, other] * 5
        sent = await asyncio.gather(*(put(http) for http in both))
        assert {answer.status_code for answer in sent} <= {200, 201}
        made = await asyncio.gather(*(http.post(VERSIONS, json=push_of()) for http in both))
    assert Counter(answer.status_code for answer in made) == {201: 1, 200: 9}
    assert {answer.json()["version"] for answer in made} == {1}
    assert (await rows(engine, tables.blobs), len(Objects(objects_url).keys())) == (1, 1)


async def test_a_projects_waiting_files_are_bounded(settings: Settings, headers: Headers, engine: AsyncEngine) -> None:
    few = create_app(settings.model_copy(update={"open_uploads": 2}))
    async with client_of(few, headers()) as users, client_of(few, headers(project="red")) as others:
        for seed in (1, 2):
            assert (await put(users, onnx(seed=seed))).status_code == 201
        refused = await put(users, onnx(seed=3))
        assert code_of(refused) == (429, "too-many-uploads")
        assert int(refused.headers["retry-after"]) > 0
        assert (await put(users, onnx(seed=1))).status_code == 200  # what is there makes it no worse
        assert (await put(others, onnx(seed=1))).status_code == 201
        assert (await users.post(VERSIONS, json=push_of(onnx(seed=1)))).status_code == 201
        assert (await put(users, onnx(seed=3))).status_code == 201
    assert await rows(engine, tables.blobs) == 4


async def test_bytes_that_are_gone_or_damaged_make_no_version(users: httpx2.AsyncClient, objects_url: str) -> None:
    await put(users)
    [key] = Objects(objects_url).keys()
    Objects(objects_url).remove(key)
    assert code_of(await users.post(VERSIONS, json=push_of())) == (502, "bytes-missing")
    assert (await put(users)).status_code == 200
    assert (await users.post(VERSIONS, json=push_of())).status_code == 201


async def test_a_large_file_is_looked_into_and_not_read(users: httpx2.AsyncClient) -> None:
    header = {"w": {"dtype": "U8", "shape": [900_000], "data_offsets": [0, 900_000]}}
    architecture = {"architecture": {"name": "mlp"}}
    large = safetensors(header, b"\1" * 900_000)
    assert (await push(users, large, "safetensors", parameters=architecture)).status_code == 201
