"""Batches on the wire. What becomes of them: test_batches.py, and with a real ingest test_batches_with_ingest.py."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from registries import Registry
from servings_at_work import Serving
from sqlalchemy.ext.asyncio import AsyncEngine
from worlds import trained

from kit.callers import Role
from kit.tables import audit
from kit.testing import KeyFolder, eventually
from serving.settings import Settings

BATCHES = "/v1/deployments/late/batches"
ASKED: dict[str, Any] = {"dataset": "flights@3", "output": "answers"}
AWAY = "http://127.0.0.1:9"


@pytest.fixture
async def late(
    settings: Callable[..., Settings], key_folder: KeyFolder, engine: AsyncEngine, registry: Registry
) -> Any:
    """Something served, where ingest is away: a batch that is taken waits."""
    registry.register("late", trained())
    async with Serving.started(settings(ingest_url=AWAY, project_batches=3), key_folder) as it:
        await it.deploy("late", "late")
        yield it


async def test_a_batch_is_taken_and_shown(late: Serving, engine: AsyncEngine) -> None:
    made = await late.http.post(BATCHES, json=ASKED)
    assert (made.status_code, made.headers["location"]) == (202, f"{BATCHES}/{made.json()['id']}")
    batch = made.json()
    assert batch["targets"][0]["model"] == "late"
    assert batch | {"targets": [], "id": "", "created_at": ""} == {
        "id": "",
        "deployment": "late",
        "revision": 1,
        "targets": [],
        "dataset": "flights@3",
        "dataset_digest": None,
        "split": None,
        "output": "answers",
        "columns": None,
        "status": {"phase": "pending", "reason": "waiting-for-dataset", "message": "", "hint": ""},
        "progress": {"rows": 0, "rows_done": 0, "refused": 0},
        "result": None,
        "created_at": "",
        "started_at": None,
        "finished_at": None,
    }

    async def told() -> bool:
        shown = (await late.http.get(made.headers["location"], params={"wait": "100ms"})).json()
        return bool(shown["status"]["message"] == "The service ingest is not answering.")

    await eventually(told)
    async with engine.begin() as connection:
        found = await connection.execute(sa.select(audit.c.action, audit.c.name).where(audit.c.noun == "batch"))
    assert [tuple(row) for row in found] == [("create", batch["id"])]


async def test_a_key_makes_one_batch(late: Serving) -> None:
    both = [await late.http.post(BATCHES, json=ASKED, headers={"idempotency-key": "k"}) for _ in range(2)]
    assert both[0].json() == both[1].json()
    assert both[1].headers["location"] == both[0].headers["location"]
    assert len((await late.http.get(BATCHES)).json()["items"]) == 1


async def test_batches_are_listed_the_newest_first(late: Serving) -> None:
    made = [(await late.http.post(BATCHES, json=ASKED)).json()["id"] for _ in range(3)]
    page = (await late.http.get(BATCHES, params={"page_size": "2"})).json()
    assert [item["id"] for item in page["items"]] == made[:0:-1]
    rest = (await late.http.get(BATCHES, params={"page_token": page["next_page_token"]})).json()
    assert ([item["id"] for item in rest["items"]], rest["next_page_token"]) == (made[:1], None)
    many = await late.http.post(BATCHES, json=ASKED)
    assert (many.status_code, many.json()["code"]) == (429, "too-many-batches")
    wrong = await late.http.get(BATCHES, params={"page_token": "MXg"})
    assert wrong.json()["code"] == "page-token-invalid"


async def test_a_batch_is_cancelled_and_then_deleted(late: Serving) -> None:
    batch = (await late.http.post(BATCHES, json=ASKED)).json()["id"]
    running = await late.http.delete(f"{BATCHES}/{batch}")
    assert (running.status_code, running.json()["code"]) == (409, "batch-running")
    for _ in range(2):
        cancelled = await late.http.post(f"{BATCHES}/{batch}/cancel")
        assert cancelled.status_code in (202, 409)
    ended = (await late.http.get(f"{BATCHES}/{batch}", params={"wait": "10s"})).json()
    assert (ended["status"]["phase"], ended["finished_at"] is None) == ("cancelled", False)
    late_one = await late.http.post(f"{BATCHES}/{batch}/cancel")
    assert (late_one.status_code, late_one.json()["code"]) == (409, "batch-finished")
    assert (await late.http.delete(f"{BATCHES}/{batch}")).status_code == 204
    for gone in (await late.http.get(f"{BATCHES}/{batch}"), await late.http.delete(f"{BATCHES}/{batch}")):
        assert (gone.status_code, gone.json()["code"]) == (404, "batch-not-found")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"dataset": "Flights"}, "#/dataset"),
        ({"dataset": "flights@champion"}, "#/dataset"),
        ({"output": "../x"}, "#/output"),
        ({"split": "both"}, "#/split"),
        ({"columns": ["a"] * 501}, "#/columns"),
        ({"more": 1}, "#/more"),
    ],
)
async def test_what_is_asked_wrongly_is_refused(late: Serving, changes: dict[str, Any], pointer: str) -> None:
    refused = await late.http.post(BATCHES, json=ASKED | changes)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == pointer


async def test_of_nothing_there_is_no_batch(late: Serving, registry: Registry) -> None:
    absent = await late.http.post("/v1/deployments/absent/batches", json=ASKED)
    assert (absent.status_code, absent.json()["code"]) == (404, "deployment-not-found")
    made = (await late.http.post(BATCHES, json=ASKED)).json()["id"]
    for path in (f"{BATCHES}/{uuid.uuid4()}", f"/v1/deployments/other/batches/{made}"):
        assert (await late.http.get(path)).json()["code"] == "batch-not-found"
    elsewhere = await late.http.get(f"{BATCHES}/{made}", headers=late.headers(project="other"))
    assert elsewhere.status_code == 404


async def test_viewers_look_and_ask_for_nothing(late: Serving) -> None:
    made = (await late.http.post(BATCHES, json=ASKED)).json()["id"]
    viewer = late.headers(role=Role.VIEWER)
    assert (await late.http.get(f"{BATCHES}/{made}", headers=viewer)).status_code == 200
    assert (await late.http.get(BATCHES, headers=viewer)).status_code == 200
    for answer in (
        await late.http.post(BATCHES, json=ASKED, headers=viewer),
        await late.http.post(f"{BATCHES}/{made}/cancel", headers=viewer),
        await late.http.delete(f"{BATCHES}/{made}", headers=viewer),
    ):
        assert answer.status_code == 403
