"""A signature says what a model takes and answers."""

import json
from typing import Any

import numpy as np
import pytest

from kit import errors
from models.signature import Field, ModelOutputInvalid, Prediction, Signature

COLUMNS = (Field("distance", "number"), Field("carrier", "string", nullable=True))


@pytest.mark.parametrize(
    ("task", "classes"),
    [
        ("regression", ()),
        ("classification", (0, 1)),
        ("classification", (False, True)),
        ("classification", ("a", "b", "c")),
    ],
)
def test_a_signature_survives_json(task: str, classes: tuple[Any, ...]) -> None:
    signature = Signature.of(COLUMNS, task, classes)
    assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {},
        {"inputs": [], "outputs": [], "task": "regression", "classes": []},
        {"inputs": [{"name": "a", "type": "vector"}], "outputs": [], "task": "regression", "classes": []},
        {"inputs": [{"name": "a", "type": "number"}] * 2, "outputs": [], "task": "regression", "classes": []},
        {"inputs": [{"name": "a", "type": "number"}], "outputs": [], "task": "clustering", "classes": []},
        {"inputs": [{"name": "a", "type": "number"}], "outputs": [], "task": "classification", "classes": [1]},
        {"inputs": [{"name": "a", "kind": "number"}], "outputs": [], "task": "regression", "classes": []},
    ],
)
def test_what_is_no_signature_is_invalid(broken: Any) -> None:
    with pytest.raises(errors.Invalid):
        Signature.from_json(broken)


def test_classes_of_several_types_are_invalid() -> None:
    with pytest.raises(errors.Invalid):
        Signature.of(COLUMNS, "classification", (0, "one"))


def test_two_classes_are_answered_with_the_probability_of_the_second() -> None:
    signature = Signature.of(COLUMNS, "classification", ("early", "late"))
    prediction = Prediction(np.array(["late", "early"], object), np.array([[0.25, 0.75], [0.875, 0.125]]))
    assert signature.answers_of(prediction) == [{"label": "late", "score": 0.75}, {"label": "early", "score": 0.125}]


def test_a_classifier_without_probabilities_answers_labels() -> None:
    signature = Signature.of(COLUMNS, "classification", ("early", "late"), scored=False)
    assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature
    assert [field.name for field in signature.outputs] == ["label"]
    assert not signature.scored
    assert not Signature.of(COLUMNS, "regression").scored
    assert signature.answers_of(Prediction(np.array(["late"], object), None)) == [{"label": "late"}]
    with pytest.raises(ModelOutputInvalid):
        signature.answers_of(Prediction(np.array(["never"], object), None))


def test_more_classes_are_answered_with_the_probability_of_the_label() -> None:
    signature = Signature.of(COLUMNS, "classification", ("a", "b", "c"))
    prediction = Prediction(np.array(["b"], object), np.array([[0.25, 0.5, 0.25]]))
    assert signature.answers_of(prediction) == [{"label": "b", "score": 0.5}]


def test_boolean_classes_come_back_as_booleans() -> None:
    signature = Signature.of(COLUMNS, "classification", (False, True))
    (answer,) = signature.answers_of(Prediction(np.array([1]), np.array([[0.25, 0.75]])))
    assert answer["label"] is True


def test_a_regression_answers_values() -> None:
    signature = Signature.of(COLUMNS, "regression")
    assert signature.answers_of(Prediction(np.array([1.5, 2.5]), None)) == [{"value": 1.5}, {"value": 2.5}]


@pytest.mark.parametrize(
    ("signature", "prediction"),
    [
        (Signature.of(COLUMNS, "regression"), Prediction(np.array([np.nan]), None)),
        (Signature.of(COLUMNS, "classification", (0, 1)), Prediction(np.array([0]), np.array([[np.inf, 0]]))),
        (Signature.of(COLUMNS, "classification", (0, 1)), Prediction(np.array([7]), np.array([[0.5, 0.5]]))),
    ],
)
def test_an_answer_that_json_or_the_signature_does_not_have_is_refused(
    signature: Signature, prediction: Prediction
) -> None:
    with pytest.raises(ModelOutputInvalid):
        signature.answers_of(prediction)
