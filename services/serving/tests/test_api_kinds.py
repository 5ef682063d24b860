"""`predict` with bodies and answers that are no JSON: the same answers, to the last bit."""

import io
from datetime import datetime
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pytest
from registries import Registry
from servings_at_work import Serving
from test_api_deployments import problem
from worlds import COLUMNS, LOGISTIC, REGRESSOR, rows, trained

from serving.domain import arrow, npy

PATH = "/v1/deployments/late/predict"
AS_ARROW, AS_NPY = {"content-type": arrow.MEDIA_TYPE}, {"content-type": npy.MEDIA_TYPE}
NUMBERS = COLUMNS[:4]


@pytest.fixture
async def late(serving: Serving, registry: Registry) -> Serving:
    registry.register("late", trained(LOGISTIC, classes=("early", "late")))
    await serving.deploy("late", "late")
    return serving


def stream(asked: list[dict[str, Any]]) -> bytes:
    columns: dict[str, Any] = {name: [row[name] for row in asked] for name in asked[0]}
    columns["at"] = pa.array([datetime.fromisoformat(it) for it in columns["at"]], pa.timestamp("us", "UTC"))
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return bytes(sink.getvalue())


def npy_of(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(array), allow_pickle=False)
    return out.getvalue()


def predictions(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


async def test_arrow_goes_in_and_comes_out(late: Serving) -> None:
    asked = rows(20, seed=4)
    said = predictions(await late.predict("late", asked))
    assert predictions(await late.http.post(PATH, content=stream(asked), headers=AS_ARROW)) == said
    accept = {"accept": f"application/json;q=0.5, {arrow.MEDIA_TYPE}"}
    for answer in (
        await late.http.post(PATH, content=stream(asked), headers={**AS_ARROW, **accept}),
        await late.http.post(PATH, json={"rows": asked}, headers=accept),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (200, arrow.MEDIA_TYPE)
        table = pa.ipc.open_stream(answer.content).read_all()
        table.validate(full=True)
        assert table.select(["label", "score"]).to_pylist() == said
        assert [row[1] for row in table["probabilities"].to_pylist()] == [it["score"] for it in said]
        assert table.schema.metadata == {b"model": b"late", b"version": b"1", b"revision": b"1"}


@pytest.mark.parametrize("path", [LOGISTIC, REGRESSOR])
async def test_an_array_of_numpy_is_rows(serving: Serving, registry: Registry, path: str) -> None:
    registry.register("late", trained(path, columns=NUMBERS))
    await serving.deploy("late", "late")
    asked = [{column.name: row[column.name] for column in NUMBERS} for row in rows(20, seed=4)]
    array = np.array([[np.nan if value is None else value for value in row.values()] for row in asked], np.float64)
    said = predictions(await serving.predict("late", asked))
    assert predictions(await serving.http.post(PATH, content=npy_of(array), headers=AS_NPY)) == said


async def test_what_cannot_be_read_is_a_problem(late: Serving) -> None:
    for content, headers, status, code in (
        (b"", AS_ARROW, 400, "arrow-invalid"),
        (b"", AS_NPY, 400, "npy-invalid"),
        (stream(rows(3))[:-9], AS_ARROW, 400, "arrow-invalid"),
        (npy_of(["text"]), AS_NPY, 400, "npy-invalid"),
        (npy_of([[1.0, 2.0]]), AS_NPY, 422, "rows-invalid"),
        (b"x" * (5 << 20), AS_NPY, 413, "content-too-large"),
        (b"x", {**AS_NPY, "content-encoding": "gzip"}, 415, "unsupported-media-type"),
        (b"x", {"content-type": "application/octet-stream"}, 400, "malformed-request"),
    ):
        problem(await late.http.post(PATH, content=content, headers=headers), status, code)
    # Whatever is wanted back: what is wrong is said as a problem.
    wrong = await late.http.post(PATH, content=b"{}", headers={"accept": arrow.MEDIA_TYPE})
    problem(wrong, 422, "rows-invalid")
