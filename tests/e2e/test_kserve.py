"""KServe's own client gets what everybody gets, by both of its protocols, through the gateway."""

import json
from typing import Any

from clients_of_others import rows, run
from suites_at_work import Suite
from worlds import World

INSTEAD = 7.5
"""For what is missing, where JSON has to say it: it has no NaN."""


def test_kserve_and_rows_agree(shared_suite: Suite, world: World) -> None:
    asked = [{name: INSTEAD if value is None else value for name, value in row.items()} for row in rows()]
    with shared_suite.client() as client:
        assert client.runs.wait(world.start(client, seed=1).id).phase == "succeeded"
        plain = client.predict(world.name, asked).predictions
        described = client._http.get(f"/v2/models/{world.name}").json()["inputs"]
        order = {
            "url": client.url,
            "authorization": client._http.headers["authorization"],
            "model": world.name,
            "inputs": described,
            "columns": {name: [row[name] for row in asked] for name in asked[0]},
            "rows": asked,
        }
        found = run("kserve", "kserve_client.py", order)
    assert [found[name] for name in ("live", "ready", "model", "other")] == [True, True, True, False]
    assert found["v1"] == [dict(answer) for answer in plain]
    labels, scores = [str(it["label"]) for it in plain], [str(it["score"]) for it in plain]
    for name in ("binary", "text"):
        assert found[name]["id"] == "seven"
        assert (found[name]["label"], found[name]["score"]) == (labels, scores)
        assert found[name]["probabilities"][1::2] == scores
    chosen = found["chosen"]
    assert [chosen.pop("score"), chosen.pop("label"), len(chosen.pop("id")) > 0, chosen] == [scores, labels, True, {}]
    _refused(found["nobody"], 404, "There is no deployment nobody.")
    _refused(found["wrong"], 400, "is missing")
    _refused(found["v1 wrong"], 400, "#/instances/0/carrier is missing")


def _refused(said: Any, status: int, words: str) -> None:
    """What the client makes of it names our reason."""
    code, text = said
    assert code == status, json.dumps(said)
    assert words in text
