"""KServe's first protocol and MLflow's scoring server: the same answers, in their words."""

import csv
import io
import json
from typing import Any

import httpx2
import pytest
from registries import Registry
from servings_at_work import Serving
from worlds import REGRESSOR, rows, trained

V1 = "/v1/models/late:predict"
INVOCATIONS = "/v1/deployments/late/invocations"


@pytest.fixture
async def late(serving: Serving, registry: Registry) -> Serving:
    registry.register("late", trained())
    await serving.deploy("late", "late")
    return serving


def predictions(answer: httpx2.Response) -> Any:
    assert answer.status_code == 200, answer.text
    [(name, found)] = answer.json().items()
    assert name == "predictions"
    return found


def csv_of(asked: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(asked[0]))
    writer.writeheader()
    writer.writerows(asked)
    return text.getvalue().encode()


async def test_every_form_gets_what_rows_get(late: Serving) -> None:
    asked = rows(5)
    said = (await late.predict("late", asked)).json()["predictions"]
    names, values = list(asked[0]), [list(row.values()) for row in asked]
    split = {"columns": names, "data": values}
    assert predictions(await late.http.post(V1, json={"instances": asked})) == said
    for body in (
        {"dataframe_records": asked},
        {"dataframe_split": split},
        {"instances": values},
        {"inputs": {name: [row[name] for row in asked] for name in names}},
    ):
        assert predictions(await late.http.post(INVOCATIONS, json=body)) == said
    for media in ("text/csv", "text/csv; charset=utf-8"):
        headers = {"content-type": media}
        assert predictions(await late.http.post(INVOCATIONS, content=csv_of(asked), headers=headers)) == said
    ping = await late.http.get("/v1/deployments/late/ping")
    assert (ping.status_code, ping.text) == (200, "\n")


async def test_a_model_of_one_output_answers_its_values(serving: Serving, registry: Registry) -> None:
    registry.register("late", trained(REGRESSOR))
    await serving.deploy("late", "late")
    asked = rows(3)
    said = [it["value"] for it in (await serving.predict("late", asked)).json()["predictions"]]
    assert predictions(await serving.http.post(V1, json={"instances": asked})) == said
    assert predictions(await serving.http.post(INVOCATIONS, json={"inputs": asked})) == said


@pytest.mark.parametrize(
    ("content", "headers", "status", "said"),
    [
        (b"{", {}, 400, "not valid JSON"),
        (b'{"instances": [NaN]}', {}, 400, "not valid JSON"),
        (b"[]", {}, 400, "# must be an object"),
        (b'{"instances": [{}]}', {}, 400, "#/instances/0/distance is missing"),
        (b" " * (5 << 20), {}, 413, "at most"),
        (b"{}", {"content-encoding": "gzip"}, 415, "no encoded bodies"),
    ],
)
async def test_errors_are_in_the_shape_of_each_protocol(
    late: Serving, content: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    answer = await late.http.post(V1, content=content, headers=headers)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert said in answer.json()["error"]
    answer = await late.http.post(INVOCATIONS, content=content, headers=headers)
    document = answer.json()
    assert (answer.status_code, list(document)) == (status, ["error_code", "message"])
    assert document["error_code"] == "BAD_REQUEST"
    assert said in document["message"]


async def test_who_is_not_there_or_not_of_this_kind_is_told_so(late: Serving) -> None:
    body = json.dumps({"instances": rows(1)}).encode()
    answer = await late.http.post("/v1/models/nobody:predict", content=body)
    assert (answer.status_code, answer.json()) == (404, {"error": "There is no deployment nobody."})
    for method, path in (("GET", "/v1/deployments/nobody/ping"), ("POST", "/v1/deployments/nobody/invocations")):
        answer = await late.http.request(method, path, content=body if method == "POST" else b"")
        assert answer.status_code == 404
        assert answer.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    answer = await late.http.post(INVOCATIONS, content=b"x", headers={"content-type": "application/parquet"})
    assert (answer.status_code, answer.json()["error_code"]) == (415, "BAD_REQUEST")
    for method, path in (("GET", V1), ("POST", "/v1/models/late"), ("POST", "/v1/models/late:explain")):
        assert (await late.http.request(method, path)).status_code in (404, 405)
