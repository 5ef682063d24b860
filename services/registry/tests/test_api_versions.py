"""Versions over HTTP: registered, read, downloaded, held, deleted."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import tables
from kit.app import Service
from kit.blobs import BlobStore, collect
from kit.testing import client_of, eventually
from kit.testing_objects import Objects
from registry.api.state import TooManyWaiting, Turns
from registry.app import create_app
from registry.domain.manifests import Manifest, version_digest
from registry.settings import Settings
from registry.store.models import ModelStore
from registry.testing import FILE, JOB, Headers, Trainer, code_of, digest_of, manifest_of

MODEL = "/v1/models/flight-delays"
VERSIONS = f"{MODEL}/versions"
NOW = timedelta(0)


async def counted(engine: AsyncEngine, *kinds: str) -> list[int]:
    """How many events of each kind there are."""
    async with engine.begin() as connection:
        found = Counter((await connection.execute(sa.select(tables.events.c.kind))).scalars())
    return [found[f"model.version.{kind}"] for kind in kinds]


async def test_what_was_registered_is_read(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    files = (FILE, b"the twin")
    for data in files:
        await trainer.upload(data)
    made = await trainer.register(manifest=manifest_of(*files))
    assert (made.status_code, made.headers["location"]) == (201, f"{VERSIONS}/1")
    manifest = manifest_of(*files)
    digest = version_digest(Manifest.model_validate(manifest))
    read = (await users.get(made.headers["location"])).json()
    own = {"model": "flight-delays", "version": 1, "digest": digest}
    own |= {name: read[name] for name in ("created_at", "attestations")}
    assert read == made.json() == manifest | own
    assert (await users.get(MODEL)).json()["description"] == ""
    for reference in ("latest", digest):
        assert (await users.get(f"{VERSIONS}/{reference}")).json() == read


async def test_the_same_model_made_again_is_the_version_that_is_there(
    users: httpx2.AsyncClient, trainer: Trainer, engine: AsyncEngine
) -> None:
    [version] = await trainer.make(1)
    other = {**manifest_of()["lineage"], "job": JOB.replace("1", "2"), "attempt": 3}
    again = await trainer.register(seed=1, lineage=other, metrics={"roc_auc": 0.5})
    assert (again.status_code, again.json()) == (200, version)
    assert again.headers["location"] == f"{VERSIONS}/1"
    assert len((await users.get(VERSIONS)).json()["items"]) == 1
    assert await counted(engine, "registered") == [1]


async def test_a_hundred_registrations_at_two_replicas_count_to_a_hundred(
    trainer: Trainer, settings: Settings, headers: Headers
) -> None:
    await trainer.upload()
    async with client_of(create_app(settings), headers(issuer="trainer")) as http:
        both = [trainer, Trainer(http)]
        answers = await asyncio.gather(*(both[seed % 2].register(seed=seed) for seed in range(100)))
    assert {answer.status_code for answer in answers} == {201}
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 101))


async def test_registrations_of_one_model_leave_connections_to_others(
    trainer: Trainer, engine: AsyncEngine, settings: Settings
) -> None:
    """Somebody has the model's row, so that all who register wait: those who read do not."""
    await trainer.make(0)
    async with engine.begin() as connection:
        await ModelStore(connection).get("demo", "flight-delays", lock=True)

        async def stuck() -> bool:
            waiting = sa.text("select count(*) from pg_locks where not granted")
            return bool((await connection.execute(waiting)).scalar_one() >= settings.changes)

        async with asyncio.TaskGroup() as group:
            registering = [group.create_task(trainer.register(seed=seed)) for seed in range(1, 21)]
            await eventually(stuck)
            read = [await trainer.http.get(f"{VERSIONS}/1") for _ in range(5)]
            await connection.commit()
    assert [answer.status_code for answer in read] == 5 * [200]
    assert sorted(task.result().json()["version"] for task in registering) == list(range(2, 22))


async def test_one_model_registered_by_many_at_once_is_one_version(trainer: Trainer, engine: AsyncEngine) -> None:
    await trainer.upload()
    answers = await asyncio.gather(*(trainer.register(seed=1) for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 19}
    assert {answer.json()["version"] for answer in answers} == {1}
    assert await counted(engine, "registered") == [1]


async def test_a_version_without_its_bytes_is_none(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    await trainer.upload(FILE)
    refused = await trainer.register(manifest=manifest_of(FILE, b"never sent"))
    assert code_of(refused) == (422, "file-not-uploaded")
    assert refused.json()["errors"][0]["pointer"] == "#/formats/1/digest"
    assert (await users.get("/v1/models")).json()["items"] == []
    assert (await trainer.make(1))[0]["version"] == 1


async def test_a_size_that_is_not_that_of_the_bytes_is_refused(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    await trainer.upload()
    manifest = manifest_of()
    manifest["formats"][0]["size"] += 1
    refused = await trainer.register(manifest=manifest)
    assert code_of(refused) == (422, "file-size-wrong")
    assert refused.json()["errors"][0]["pointer"] == "#/formats/0/size"
    assert (await users.get("/v1/models")).json()["items"] == []


async def test_another_projects_bytes_are_not_here(trainer: Trainer, headers: Headers) -> None:
    await trainer.upload()
    trainer.http.headers.update(headers(issuer="trainer", project="red"))
    assert code_of(await trainer.register()) == (422, "file-not-uploaded")


async def test_bytes_that_are_just_being_collected_are_to_be_sent_again(trainer: Trainer, engine: AsyncEngine) -> None:
    await trainer.upload()
    async with engine.begin() as connection:
        await connection.execute(sa.update(tables.blobs).values(state="dying", dying_since=sa.func.now()))
    for refused in (await trainer.register(), await trainer.upload()):
        assert code_of(refused) == (503, "blob-collected")
        assert int(refused.headers["retry-after"]) > 60


@pytest.mark.parametrize("raw", [b'{"formats": NaN}', b'{"task": 1, "task": 2}', b"{", b"\xff", b'{"a": "\\u0000"}'])
async def test_what_is_no_strict_json_is_malformed(trainer: Trainer, raw: bytes) -> None:
    path = "/internal/v1/models/flight-delays/versions"
    answer = await trainer.http.put(path, content=raw, headers={"content-type": "application/json"})
    assert code_of(answer) == (400, "malformed-request")


async def test_what_is_no_manifest_or_no_name_is_refused(trainer: Trainer) -> None:
    answer = await trainer.register(manifest=manifest_of(task="clustering"))
    assert code_of(answer) == (422, "validation-failed")
    assert answer.json()["errors"][0]["pointer"] == "#/task"
    assert code_of(await trainer.register("Flights")) == (422, "validation-failed")


async def test_versions_are_listed_newest_first_in_pages(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    await trainer.make(*range(55))
    page = (await users.get(VERSIONS, params={"page_size": 1000})).json()
    assert [version["version"] for version in page["items"]] == list(range(55, 5, -1))
    rest = (await users.get(VERSIONS, params={"page_token": page["next_page_token"], "page_size": 2})).json()
    assert [version["version"] for version in rest["items"]] == [5, 4]
    assert code_of(await users.get("/v1/models/other/versions")) == (404, "model-not-found")
    assert code_of(await users.get(VERSIONS, params={"page_token": "MWE"})) == (422, "page-token-invalid")


async def test_lineage_is_one_call(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    [version] = await trainer.make(1)
    assert (await users.get(f"{VERSIONS}/latest/lineage")).json() == {
        "model": "flight-delays",
        "version": 1,
        "digest": version["digest"],
        "dataset": {"reference": "flights@3", "digest": digest_of(b"flights")},
        "job": {"id": JOB, "attempt": 1},
        "code": {"digest": digest_of(b"code")},
        "environment": {"python": "3.11.7", "scikit-learn": "1.9.1"},
    }


async def test_a_file_is_downloaded_under_its_own_name(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    await trainer.make(1)
    answer = await users.get(f"{VERSIONS}/1/files/model.skops")
    assert (answer.status_code, answer.content) == (200, FILE)
    told = {name: answer.headers[name] for name in ("content-disposition", "content-length", "content-type", "etag")}
    assert told == {
        "content-disposition": 'attachment; filename="model.skops"',
        "content-length": str(len(FILE)),
        "content-type": "application/octet-stream",
        "etag": f'"{digest_of(FILE)}"',
    }
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["model.onnx", "..%2Fmodel.skops", "%2Fetc%2Fpasswd", "a%00", "a%0d%0aX:%20y", "%22"])
async def test_a_file_that_the_manifest_does_not_name_is_not_there(
    users: httpx2.AsyncClient, trainer: Trainer, path: str
) -> None:
    await trainer.make(1)
    assert (await users.get(f"{VERSIONS}/1/files/{path}")).status_code == 404


def key_of(data: bytes, project: str = "demo") -> str:
    name = digest_of(data).removeprefix("sha256:")
    return f"blobs/registry/{project}/sha256/{name[:2]}/{name}"


async def test_a_flipped_byte_is_a_problem_and_not_half_a_file(
    users: httpx2.AsyncClient, trainer: Trainer, objects_url: str
) -> None:
    await trainer.make(1)
    Objects(objects_url).damage(key_of(FILE))
    answer = await users.get(f"{VERSIONS}/1/files/model.skops")
    assert code_of(answer) == (502, "artifact-corrupt")
    assert "etag" not in answer.headers
    # The trainer, who sends it again, repairs it.
    await trainer.upload()
    assert (await users.get(f"{VERSIONS}/1/files/model.skops")).content == FILE
    Objects(objects_url).remove(key_of(FILE))
    assert code_of(await users.get(f"{VERSIONS}/1/files/model.skops")) == (502, "bytes-missing")


async def test_a_deleted_version_is_gone_and_its_number_too(
    users: httpx2.AsyncClient, trainer: Trainer, engine: AsyncEngine
) -> None:
    first, second = await trainer.make(1, 2)
    assert (await users.delete(f"{VERSIONS}/{second['version']}")).status_code == 204
    assert code_of(await users.delete(f"{VERSIONS}/2")) == (404, "version-not-found")
    assert code_of(await users.delete("/v1/models/other/versions/2")) == (404, "model-not-found")
    assert (await users.get(f"{VERSIONS}/latest")).json() == first
    assert [version["version"] for version in await trainer.make(2)] == [3]
    assert await counted(engine, "registered", "deleted") == [3, 1]


async def test_a_version_is_deleted_by_its_number_alone(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    """Sent again after a lost answer, a name that moves would be the next version's."""
    first, second = await trainer.make(1, 2)
    await users.put(f"{MODEL}/aliases/shadow", json={"version": 1}, headers={"if-none-match": "*"})
    for reference in ("latest", "shadow", second["digest"]):
        for _ in range(2):
            assert code_of(await users.delete(f"{VERSIONS}/{reference}")) == (422, "version-number-needed")
    assert (await users.get(VERSIONS)).json()["items"] == [second, first]


async def test_bytes_go_with_the_last_version_that_needs_them(
    users: httpx2.AsyncClient, trainer: Trainer, engine: AsyncEngine, store: BlobStore, objects_url: str
) -> None:
    await trainer.make(1, 2)
    for number, there in ((1, True), (2, False)):
        assert (await users.delete(f"{VERSIONS}/{number}")).status_code == 204
        await collect(engine, store, grace=NOW, settle=NOW, stale=NOW)
        assert (Objects(objects_url).keys() == [key_of(FILE)]) is there


@pytest.mark.parametrize("reference", ["0", "03", "none", "%00", "a%00b", "sha256:ab", "%ff", "99999999999", "-1"])
async def test_what_is_no_reference_is_not_found(users: httpx2.AsyncClient, trainer: Trainer, reference: str) -> None:
    await trainer.make(1)
    for path in (reference, f"{reference}/lineage", f"{reference}/files/model.skops"):
        assert code_of(await users.get(f"{VERSIONS}/{path}")) == (404, "version-not-found")
    refused = await users.delete(f"{VERSIONS}/{reference}")
    assert code_of(refused) in {(404, "version-not-found"), (422, "version-number-needed")}


class Holder:
    """Serving, which says that it needs a version."""

    def __init__(self, http: httpx2.AsyncClient, headers: dict[str, str]) -> None:
        self._http, self._headers = http, headers

    async def hold(self, ref: str = "flight-delays@1", noun: str = "model-version") -> httpx2.Response:
        body = {"noun": noun, "ref": ref, "holder": "deployment:flights"}
        return await self._http.put("/internal/v1/holds", json=body, headers=self._headers)

    async def release(self) -> httpx2.Response:
        params = {"noun": "model-version", "ref": "flight-delays@1", "holder": "deployment:flights"}
        return await self._http.delete("/internal/v1/holds", params=params, headers=self._headers)


@pytest.fixture
def holder(users: httpx2.AsyncClient, headers: Headers) -> Holder:
    return Holder(users, headers(issuer="serving"))


async def test_a_held_version_stays(users: httpx2.AsyncClient, trainer: Trainer, holder: Holder) -> None:
    [version] = await trainer.make(1)
    await users.put(f"{MODEL}/aliases/champion", json={"version": 1})
    for reference in ("@champion", "@1", "", f"@{version['digest']}"):
        assert (await holder.hold(f"flight-delays{reference}")).json()["ref"] == "flight-delays@1"
    await users.delete(f"{MODEL}/aliases/champion")
    refused = await users.delete(f"{VERSIONS}/1")
    assert code_of(refused) == (409, "version-in-use")
    assert refused.json()["used_by"] == ["deployment:flights"]
    assert (await holder.release()).status_code == 204
    assert (await users.delete(f"{VERSIONS}/1")).status_code == 204


async def test_only_what_is_there_is_held(trainer: Trainer, holder: Holder) -> None:
    await trainer.make(1)
    for ref in ("flight-delays@2", "other@1", "flight-delays@shadow", "flight-delays@a\x7fb", "@", "A@1", "a@1@2"):
        assert code_of(await holder.hold(ref)) == (404, "version-not-found")
    assert code_of(await holder.hold(noun="dataset-version")) == (404, "noun-unknown")


async def test_a_hold_and_a_deletion_at_once_are_never_both(
    users: httpx2.AsyncClient, trainer: Trainer, holder: Holder
) -> None:
    seen = Counter[tuple[int, int]]()
    for seed in range(20):
        [version] = await trainer.make(seed)
        number = version["version"]
        held, deleted = await asyncio.gather(
            holder.hold(f"flight-delays@{number}"), users.delete(f"{VERSIONS}/{number}")
        )
        seen[held.status_code, deleted.status_code] += 1
    assert set(seen) <= {(200, 409), (404, 204)}, seen


async def test_an_alias_and_a_deletion_at_once_are_never_both(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    seen = Counter[tuple[int, int]]()
    for seed in range(20):
        [version] = await trainer.make(seed)
        number = version["version"]
        made, deleted = await asyncio.gather(
            users.put(f"{MODEL}/aliases/a{number}", json={"version": number}),
            users.delete(f"{VERSIONS}/{number}"),
        )
        seen[made.status_code, deleted.status_code] += 1
    assert set(seen) <= {(201, 409), (422, 204)}, seen


async def test_a_registration_and_the_end_of_the_model_at_once_leave_it_whole(
    users: httpx2.AsyncClient, trainer: Trainer
) -> None:
    last = 0
    for seed in range(20):
        await trainer.make(1000 + seed)
        made, deleted = await asyncio.gather(trainer.register(seed=seed), users.delete(MODEL))
        assert (made.status_code, deleted.status_code) == (201, 204)
        assert made.json()["version"] > last
        last = made.json()["version"]
        left = await users.get(VERSIONS)
        assert left.status_code == 404 or [version["version"] for version in left.json()["items"]] == [last]


async def test_who_waits_too_long_for_his_turn_is_to_try_again() -> None:
    turns = Turns(1, patience=timedelta(milliseconds=10))
    async with turns.take():
        with pytest.raises(TooManyWaiting):
            await turns.take().__aenter__()
    async with turns.take():
        pass


async def test_without_a_database_everything_is_to_be_tried_again(settings: Settings, headers: Headers) -> None:
    away = settings.model_copy(update={"database_url": SecretStr("postgresql+psycopg://nobody@/none?host=/nowhere")})
    async with client_of(create_app(away), headers()) as users:
        for path in ("/v1/models", MODEL, f"{VERSIONS}/1/files/model.skops"):
            answer: Any = await users.get(path)
            assert code_of(answer) == (503, "dependency-unavailable")
            assert answer.headers["retry-after"]
        assert (await users.get("/readyz")).status_code == 200


async def test_a_file_can_be_had_by_a_url_without_a_key(
    app: Service, users: httpx2.AsyncClient, trainer: Trainer
) -> None:
    await trainer.make(1)
    path = f"{VERSIONS}/1/files/model.skops"
    said = (await users.get(f"{path}/url", params={"seconds": 60})).json()
    assert (said["digest"], said["size"]) == (digest_of(FILE), len(FILE))
    async with client_of(app) as stranger:
        assert (await stranger.get(path)).status_code == 401
        assert (await stranger.get(said["url"])).content == FILE
        assert (await stranger.head(said["url"])).headers["content-length"] == str(len(FILE))
    for seconds in ("0", "901", "x"):
        assert (await users.get(f"{path}/url", params={"seconds": seconds})).status_code == 422
    assert (await users.get(f"{VERSIONS}/1/files/other/url")).status_code == 404


async def test_a_file_can_be_had_in_ranges(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    await trainer.make(1)
    path = f"{VERSIONS}/1/files/model.skops"
    head = await users.head(path)
    assert (head.status_code, head.headers["etag"]) == (200, f'"{digest_of(FILE)}"')
    rest = await users.get(path, headers={"range": "bytes=3-", "if-range": head.headers["etag"]})
    assert (rest.status_code, rest.content) == (206, FILE[3:])
