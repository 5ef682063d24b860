"""From a registered model to a prediction, and on to the next model."""

import pytest
from registries import Registry
from servings_at_work import Serving
from worlds import rows, trained


async def test_a_model_is_deployed_and_answers_as_the_estimator_does(serving: Serving, registry: Registry) -> None:
    made = trained()
    registry.move("late", "champion", registry.register("late", made))
    found = await serving.deploy("late", "late@champion")
    assert found["revision"]["targets"][0]["version"] == 1
    assert found["models"] == [{"model": "late@champion", "weight": 100}]
    asked = rows(50, seed=9)
    answer = (await serving.predict("late", asked)).raise_for_status().json()
    labels, scores = made.predict(asked)
    assert [it["label"] for it in answer["predictions"]] == labels
    assert [it["score"] for it in answer["predictions"]] == pytest.approx(scores[:, 1].tolist(), abs=1e-5)
    assert (answer["model"], answer["version"], answer["revision"]) == ("late", 1, 1)
    assert registry.held() == {"late@1"}


async def test_a_moved_alias_is_followed(serving: Serving, registry: Registry) -> None:
    registry.move("late", "champion", registry.register("late", trained()))
    await serving.deploy("late", "late@champion")
    registry.move("late", "champion", registry.register("late", trained(seed=1)))
    await serving.answers_with("late", rows(1)[0], 2)
