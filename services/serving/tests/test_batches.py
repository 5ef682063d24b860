"""Batches from their beginning to their end, whoever works on them, and whatever happens meanwhile."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from batches_at_work import ADA, World
from ingests import Ingest
from sqlalchemy.ext.asyncio import AsyncEngine
from worlds import COLUMNS, LOGISTIC, REGRESSOR, rows, trained

from kit import errors
from kit.leases import Lease
from models.onnx_models import OnnxModel
from models.rows import arrays_of
from serving import actions
from serving.domain.batches import ATTEMPTS, Column, Phase, Reason
from serving.domain.shares import choose
from serving.replica.children import ModelFailed, ModelNotReady, RunnerGone
from serving.replica.lanes import Overloaded
from serving.store.batches import BatchStore, PartStore
from serving.store.tables import batch_parts, batches

SCHEMA = tuple(Column(column.name, column.type) for column in COLUMNS)


@pytest.fixture
def world(engine: AsyncEngine, tmp_path: Path) -> World:
    world = World(engine, tmp_path, Ingest(shard_rows=100))
    world.ingest.add("flights@1", rows(450), SCHEMA)
    return world


def answered(made: Any, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As `predict` answers, each row alone."""
    model, found = OnnxModel(made.files["onnx"], made.signature), []
    for row in asked:
        arrays = arrays_of(made.signature, {"rows": [row]})
        found += made.signature.answers_of(model.predict(arrays))
    return found


async def test_every_row_is_answered_once_and_as_predict_answers_it(world: World) -> None:
    await world.deploy()
    batch = await world.begin()
    await world.finish()
    seen, progress = await world.seen(batch)
    assert (seen.phase, seen.why.reason) == (Phase.SUCCEEDED, Reason.NONE), seen.why
    assert seen.result is not None
    assert (seen.result.reference, seen.rows, progress.rows_done, progress.refused) == ("answers@1", 450, 450, 0)
    result, asked = world.ingest.result(batch.id), rows(450)
    assert [row["row_number"] for row in result] == list(range(1, 451))
    assert [{name: row[name] for name in asked[0]} for row in result] == asked
    for row, said in zip(result, answered(trained(), asked), strict=True):
        assert (row["prediction"], row["prediction_score"]) == (said["label"], said["score"])
        assert (row["prediction_model"], row["prediction_error"]) == ("late@1", None)
    wanted = world.ingest.wanted[batch.id]
    assert [column["name"] for column in wanted["settings"]["columns"]] == list(result[0])
    assert wanted["settings"]["policy"] == "fail"
    assert wanted["lineage"] | {"models": []} == {
        "kind": "batch",
        "batch": str(batch.id),
        "deployment": "late",
        "revision": 1,
        "models": [],
        "dataset": "flights@1",
        "dataset_digest": "sha256:flights@1",
        "split": None,
    }
    assert not world.ingest.holds
    assert not world.registry.holds


async def test_a_regression_of_some_columns_of_a_split(world: World) -> None:
    await world.deploy(made=[trained(REGRESSOR)])
    batch = await world.begin(split="held_out", columns=("carrier",))
    await world.finish()
    result = world.ingest.result(batch.id)
    assert [row["row_number"] for row in result] == list(range(401, 451))
    assert list(result[0]) == ["row_number", "carrier", "prediction", "prediction_model", "prediction_error"]
    expected = answered(trained(REGRESSOR), rows(450)[400:])
    assert [row["prediction"] for row in result] == [said["value"] for said in expected]


async def test_a_linear_model_answers_a_row_alone_as_it_does_in_company(world: World) -> None:
    made = trained(LOGISTIC)
    await world.deploy(made=[made])
    batch = await world.begin(columns=())
    await world.finish()
    alone = answered(made, rows(450))
    assert [row["prediction_score"] for row in world.ingest.result(batch.id)] == [said["score"] for said in alone]


async def test_what_is_needed_is_held_until_the_end(world: World) -> None:
    await world.deploy()
    batch = await world.under_way()
    assert world.ingest.holds == {("flights@1", batch.holder)}
    assert world.registry.holds == {("late@1", batch.holder)}
    await world.finish()
    assert not world.ingest.holds | world.registry.holds


async def test_several_workers_share_the_parts(world: World) -> None:
    await world.deploy()
    batch = await world.under_way()
    workers = [world.worker(name) for name in ("one", "two", "three")]
    taken: list[Lease] = []

    async def busy(worker: Any) -> None:
        while parts := await world.claim(worker):
            taken.extend(parts)
            await worker.work(parts[0])

    await asyncio.gather(*map(busy, workers))
    assert len(taken) == len({lease.id for lease in taken}) == 5
    await world.finish()
    assert [row["row_number"] for row in world.ingest.result(batch.id)] == list(range(1, 451))


async def test_a_stale_fence_records_nothing(world: World) -> None:
    await world.deploy()
    batch = await world.under_way()
    [stale] = await world.claim(world.worker(ttl=timedelta(0)))
    async with world.engine.begin() as connection:
        part = await PartStore(connection).begin(stale)
    assert part is not None
    [fresh] = [it for it in await world.claim(world.worker("two"), 10) if it.id == stale.id]
    async with world.engine.begin() as connection:
        store = PartStore(connection)
        assert await store.begin(stale) is None
        assert not await store.done(stale, part, result="sha256:stale", refused=0)
        assert await store.done(fresh, part, result="sha256:fresh", refused=3)
    _, progress = await world.seen(batch)
    assert (progress.done, progress.refused) == (1, 3)


async def test_a_cancel_in_the_middle_leaves_nothing(world: World) -> None:
    await world.deploy()
    batch = await world.under_way()
    worker = world.worker()
    [first, second] = await world.claim(worker, 2)
    await worker.work(first)
    async with world.engine.begin() as connection:
        await actions.cancel_batch(connection, ADA, "late", batch.id)
    await world.look()
    await worker.work(second)  # too late
    await world.finish()
    seen, progress = await world.seen(batch)
    assert (seen.phase, progress.rows_done) == (Phase.CANCELLED, 100)
    assert world.ingest.made == {}
    assert world.ingest.closed == {batch.id}
    assert not world.ingest.holds | world.registry.holds


async def test_who_loses_a_part_while_it_works_brings_it_to_nobody(world: World) -> None:
    await world.deploy()
    batch = await world.under_way()
    worker = world.worker(ttl=timedelta(seconds=0.3))
    [lease] = await world.claim(worker)
    gate = asyncio.Event()
    predict = world.models.of[1].predict

    async def slow(arrays: Any, count: int) -> Any:
        await gate.wait()
        return await predict(arrays, count)

    world.models.of[1].predict = slow
    working = asyncio.create_task(worker.work(lease))
    async with world.engine.begin() as connection:
        await PartStore(connection).drop(batch)
    await asyncio.wait_for(working, 5)
    assert "bring" not in world.ingest.calls


async def test_rows_that_fit_no_model_say_why(world: World) -> None:
    bad = rows(20)
    bad[3]["distance"] = None
    bad[7]["at"] = "yesterday"
    world.ingest.add("flights@1", bad, SCHEMA)
    await world.deploy()
    batch = await world.begin(columns=())
    await world.finish()
    _, progress = await world.seen(batch)
    result = world.ingest.result(batch.id)
    assert (len(result), progress.refused) == (20, 2)
    wrong = {row["row_number"]: row for row in result if row["prediction_error"]}
    assert set(wrong) == {4, 8}
    assert (wrong[4]["prediction"], wrong[4]["prediction_score"]) == (None, None)
    assert wrong[4]["prediction_error"].startswith("distance must ")
    assert "at must be a time" in wrong[8]["prediction_error"]
    good = [row for row in bad if row not in (bad[3], bad[7])]
    labels = [said["label"] for said in answered(trained(), good)]
    assert [row["prediction"] for row in result if not row["prediction_error"]] == labels


async def test_whose_a_row_is_follows_from_its_number(world: World) -> None:
    await world.deploy(30, 70)
    batch = await world.begin(columns=())
    await world.finish()
    result = world.ingest.result(batch.id)
    expected = [f"late@{choose((30, 70), str(number)) + 1}" for number in range(1, 451)]
    assert [row["prediction_model"] for row in result] == expected
    assert 90 < expected.count("late@1") < 180
    asked = rows(450)
    for number, version in ((1, 0), (2, 1)):
        of = [row for row in result if row["prediction_model"] == f"late@{number}"]
        said = answered(trained(seed=version), [asked[row["row_number"] - 1] for row in of])
        assert [row["prediction_score"] for row in of] == [it["score"] for it in said]


async def test_a_row_that_the_model_cannot_answer_is_found_among_the_others(world: World) -> None:
    world.ingest.add("flights@1", rows(50), SCHEMA)
    await world.deploy()
    model = world.models.of[1]
    predict = model.predict

    async def picky(arrays: Any, count: int) -> Any:
        if (arrays["distance"] == arrays["distance"].dtype.type(rows(50)[33]["distance"])).any():
            raise ModelFailed("This distance divides by zero.")
        return await predict(arrays, count)

    model.predict = picky
    batch = await world.begin()
    await world.finish()
    seen, progress = await world.seen(batch)
    same = [n for n, row in enumerate(rows(50), 1) if row["distance"] == rows(50)[33]["distance"]]
    wrong = {row["row_number"]: row["prediction_error"] for row in world.ingest.result(batch.id)}
    assert (seen.phase, progress.refused) == (Phase.SUCCEEDED, len(same))
    assert [number for number, error in wrong.items() if error == "This distance divides by zero."] == same


async def test_who_asks_online_comes_first(world: World) -> None:
    await world.deploy()
    world.models.of[1].before = [Overloaded("Others wait."), Overloaded("Others wait.")]
    batch = await world.begin()
    await world.finish()
    seen, _ = await world.seen(batch)
    assert seen.phase is Phase.SUCCEEDED


async def test_what_passes_is_waited_for_and_counts_as_no_attempt(world: World) -> None:
    away: list[Exception] = [errors.Unavailable("Ingest is away.")] * 9

    def moody(call: str) -> None:
        if away and call in ("rows", "bring", "assemble", "version", "release"):
            raise away.pop()

    await world.deploy()
    world.models.of[1].before = [ModelNotReady("It is being started.")] * (ATTEMPTS + 2)
    world.ingest.before = moody
    batch = await world.begin()
    await world.finish()
    seen, _ = await world.seen(batch)
    assert (seen.phase, away) == (Phase.SUCCEEDED, [])


@pytest.mark.parametrize("error", [RunnerGone("It broke off."), errors.Corrupt("A shard is damaged.")])
async def test_what_does_not_pass_ends_the_batch_after_some_attempts(world: World, error: errors.Error) -> None:
    await world.deploy()

    def broken(call: str) -> None:
        if call == "rows" and isinstance(error, errors.Corrupt):
            raise error

    world.ingest.before = broken
    if isinstance(error, RunnerGone):
        world.models.of[1].before = [error] * 100
    batch = await world.begin()
    await world.finish()
    seen, _ = await world.seen(batch)
    assert (seen.phase, seen.why.reason, seen.why.message) == (Phase.FAILED, Reason.MODEL_FAILED, error.detail)
    assert seen.why.hint
    assert not world.ingest.holds | world.registry.holds


async def test_a_part_that_ends_its_process_ends_the_batch_and_not_all_processes(world: World) -> None:
    await world.deploy()
    batch = await world.under_way()
    killed = world.worker(ttl=timedelta(0))
    async with world.engine.begin() as connection:
        await connection.execute(batch_parts.delete().where(batch_parts.c.position > 0))
    for _ in range(ATTEMPTS):
        [lease] = await world.claim(killed)
        async with world.engine.begin() as connection:
            assert await PartStore(connection).begin(lease) is not None
    await world.finish()
    seen, _ = await world.seen(batch)
    assert (seen.phase, seen.why.reason) == (Phase.FAILED, Reason.MODEL_FAILED)
    assert "broke off 5 times" in seen.why.message


async def test_a_process_that_ends_gives_its_part_back(world: World) -> None:
    await world.deploy()
    batch = await world.under_way()
    worker = world.worker()
    [lease] = await world.claim(worker)
    world.stop.set()
    await worker.work(lease)
    assert await worker.claim(5) == []
    world.stop.clear()
    [again] = [it for it in await world.claim(worker, 10) if it.id == lease.id]
    async with world.engine.begin() as connection:
        part = await PartStore(connection).begin(again)
    assert part is not None
    assert part.attempts == 1
    assert (await world.seen(batch))[1].done == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dataset": "nothing"}, (Reason.DATASET_NOT_FOUND, "no version nothing")),
        ({"columns": ("nothing",)}, (Reason.DATASET_UNFIT, "no column 'nothing'")),
        ({"dataset": "narrow@1"}, (Reason.DATASET_UNFIT, "takes a column 'distance'")),
        ({"dataset": "texts@1"}, (Reason.DATASET_UNFIT, "takes 'distance' as number; in the dataset it is string")),
        ({"dataset": "taken@1"}, (Reason.DATASET_UNFIT, "named 'Prediction' already")),
        ({"dataset": "one@1", "split": "held_out"}, (Reason.DATASET_UNFIT, "no rows in its split held_out")),
    ],
)
async def test_what_cannot_be_answered_fails_and_says_why(
    world: World, asked: dict[str, Any], said: tuple[Reason, str]
) -> None:
    world.ingest.add("narrow@1", [{"carrier": "AA"}])
    world.ingest.add("texts@1", [row | {"distance": "far"} for row in rows(3)])
    world.ingest.add("taken@1", [row | {"Prediction": 1} for row in rows(3)])
    world.ingest.add("one@1", rows(3), SCHEMA)
    await world.deploy()
    batch = await world.begin(**asked)
    await world.finish()
    seen, _ = await world.seen(batch)
    assert (seen.phase, seen.why.reason) == (Phase.FAILED, said[0])
    assert said[1] in seen.why.message
    assert not world.ingest.holds | world.registry.holds


async def test_a_column_that_is_taken_may_be_left_out(world: World) -> None:
    world.ingest.add("taken@1", [row | {"Prediction": 1} for row in rows(3)])
    await world.deploy()
    batch = await world.begin(dataset="taken@1", columns=("seats",))
    await world.finish()
    assert (await world.seen(batch))[0].phase is Phase.SUCCEEDED


async def test_a_model_that_is_gone_by_now(world: World) -> None:
    world.registry.before = [errors.NotFound("There is no late@1.")]
    await world.deploy()
    batch = await world.begin()
    await world.finish()
    seen, _ = await world.seen(batch)
    assert (seen.phase, seen.why.reason) == (Phase.FAILED, Reason.MODEL_NOT_FOUND)
    assert not world.ingest.holds | world.registry.holds


@pytest.mark.parametrize("phase", ["parsing", "failed"])
async def test_a_result_that_is_parsed_or_refused(world: World, phase: str) -> None:
    world.ingest.phase = phase
    await world.deploy()
    batch = await world.begin()
    for _ in range(4):
        await world.look()
        worker = world.worker()
        for lease in await world.claim(worker, 10):
            await worker.work(lease)
    seen, _ = await world.seen(batch)
    if phase == "parsing":
        assert (seen.phase, seen.why.reason, seen.is_writing) == (Phase.RUNNING, Reason.WRITING_RESULT, True)
        world.ingest.phase = "ready"
        await world.finish()
        assert (await world.seen(batch))[0].phase is Phase.SUCCEEDED
    else:
        assert (seen.phase, seen.why.reason) == (Phase.FAILED, Reason.RESULT_REFUSED)


async def test_a_batch_is_forgotten_when_it_is_old(world: World) -> None:
    await world.deploy()
    batch = await world.begin()
    await world.finish()
    async with world.engine.begin() as connection:
        assert await BatchStore(connection).retire(timedelta(days=1)) == 0
        assert await BatchStore(connection).retire(timedelta(0)) == 1
    await world.finish()
    async with world.engine.begin() as connection:
        assert await BatchStore(connection).find("demo", batch.id) is None
        assert (await connection.execute(batches.select())).all() == []
