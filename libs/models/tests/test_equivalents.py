"""What is converted is a copy that answers alike: thresholds, scaling and a few estimators need it to be exact."""

import copy
from typing import Any

import numpy as np
import pytest
from worlds import COLUMNS, World, fitted, signature_of, world_of

from models import formats
from models.conversions import onnx_of
from models.edges import edge_rows, far_rows
from models.equivalents import equivalent, floor32, jumps
from models.estimator_samples import sample_of
from models.estimators import ESTIMATORS
from models.onnx_models import OnnxModel
from models.signature import ModelOutputInvalid, Signature
from models.skops_models import SkopsModel
from models.verdicts import Verdict, answerable, compare

TREE, FOREST = "sklearn.tree.DecisionTreeClassifier", "sklearn.ensemble.RandomForestClassifier"
HIST = "sklearn.ensemble.HistGradientBoostingClassifier"
LINEAR = "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"


@pytest.fixture(scope="module")
def world() -> World:
    return world_of(900)


def judged(model: Any, world: World, signature: Signature, converted: Any = None) -> Verdict:
    original = SkopsModel(formats.dumps(model), signature)
    twin = OnnxModel(onnx_of(model if converted is None else converted, signature), signature)
    beside, far = edge_rows(model, signature, world.arrays), far_rows(signature, world.arrays)
    return compare(original, twin, world.arrays, beside=beside, far=far)


def test_a_threshold_is_rounded_to_the_float32_below() -> None:
    values = np.array([0.1, -0.1, 1.0, 1e300, -1e300, 3.0e-46])
    rounded = floor32(values)
    assert (rounded <= values).all()
    assert (np.nextafter(rounded[:3].astype(np.float32), np.float32(np.inf)).astype(float) > values[:3]).all()
    assert rounded[2] == 1.0
    assert rounded[3] == np.finfo(np.float32).max
    assert np.isneginf(rounded[4])


def test_between_two_neighbouring_float32_a_tree_decides_as_before() -> None:
    low = np.float32(16_777_214.0)
    high = np.nextafter(low, np.float32(np.inf))
    world = world_of(200)
    world.arrays["distance"][:] = np.where(world.late == 1, high, low).reshape(-1, 1)
    model = fitted(TREE, world, world.late)
    assert model[-1].tree_.threshold[0] == (float(low) + float(high)) / 2
    verdict = judged(model, world, signature_of())
    assert verdict.kept, verdict


@pytest.mark.parametrize("path", [TREE, FOREST, "sklearn.ensemble.BaggingClassifier"])
def test_scaled_columns_go_the_same_way_through_trees(path: str, world: World) -> None:
    model = fitted(path, world.part(0, 600), world.late[:600], numeric="impute_median_scale", categories="one_hot")
    verdict = judged(model, world.part(600, 900), signature_of())
    assert verdict.kept, verdict
    assert "beside its thresholds" in verdict.reason


@pytest.mark.parametrize(
    ("path", "choices"),
    [
        (TREE, {"numeric": "impute_median_unit"}),
        (TREE, {"numeric": "impute_median_bins"}),
        (FOREST, {"categories": "one_hot"}),
        ("sklearn.naive_bayes.CategoricalNB", {}),
        ("sklearn.naive_bayes.BernoulliNB", {}),
        ("sklearn.naive_bayes.MultinomialNB", {}),
        ("sklearn.ensemble.VotingClassifier", {}),
        ("sklearn.ensemble.StackingClassifier", {}),
        ("sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis", {}),
        ("sklearn.compose.TransformedTargetRegressor", {}),
        ("sklearn.cross_decomposition.CCA", {}),
    ],
)
def test_what_converts_as_another_agrees(path: str, choices: dict[str, Any], world: World) -> None:
    task = ESTIMATORS[path].task
    parameters = sample_of(ESTIMATORS[path], task)
    targets = world.late if task == "classification" else world.delay
    model = fitted(path, world.part(0, 600), targets[:600], parameters=parameters, **choices)
    verdict = judged(model, world.part(600, 900), signature_of(task))
    assert verdict.kept, verdict


def shifted(model: Any) -> Any:
    """The model, each threshold of it one float32 too high: what a careless conversion makes of it."""
    wrong = copy.deepcopy(model)
    for tree in [wrong[-1]] if hasattr(wrong[-1], "tree_") else wrong[-1].estimators_:
        down = floor32(tree.tree_.threshold).astype(np.float32)
        tree.tree_.threshold[:] = np.nextafter(down, np.float32(np.inf))
    return wrong


@pytest.mark.parametrize("path", [TREE, FOREST])
def test_a_threshold_that_is_one_float32_off_is_found(path: str, world: World) -> None:
    model = fitted(path, world.part(0, 600), world.late[:600])
    other, signature = world.part(600, 900), signature_of()
    original = SkopsModel(formats.dumps(model), signature)
    twin = OnnxModel(onnx_of(shifted(model), signature), signature)
    assert compare(original, twin, other.arrays).kept  # no row of the data shows it
    verdict = judged(model, other, signature, shifted(model))
    assert not verdict.kept
    assert "beside the model's thresholds" in verdict.reason


def test_two_classes_of_a_linear_discriminant_are_those_of_the_logistic_function(world: World) -> None:
    model = fitted(LINEAR, world, world.late)
    assert judged(model, world, signature_of()).kept


def test_the_model_itself_stays_as_it_was(world: World) -> None:
    model = fitted(FOREST, world, world.late)
    before = formats.dumps(model)
    equivalent(model)
    onnx_of(model, signature_of())
    assert formats.dumps(model) == before
    assert jumps(model[-1])
    assert not jumps(fitted(LINEAR, world, world.late)[-1])


def test_what_needs_a_loop_is_not_run_in_the_process_that_serves() -> None:
    world = world_of(60)
    model = fitted("sklearn.neighbors.KNeighborsClassifier", world, world.late)
    with pytest.raises(ValueError, match="runs no Scan"):
        onnx_of(model, signature_of())


def test_far_from_all_data_a_twin_may_have_no_number_but_not_another_one(world: World) -> None:
    model = fitted("sklearn.cross_decomposition.PLSCanonical", world, world.delay)
    verdict = judged(model, world, signature_of("regression"))
    assert verdict.kept, verdict
    assert "it has no number" in verdict.reason
    classes = np.array(["a", "b", "c"], object)
    three = classes[np.digitize(world.delay, np.quantile(world.delay, [0.3, 0.6]))]
    inner = {"class": "sklearn.linear_model.LogisticRegression"}
    model = fitted("sklearn.multiclass.OneVsRestClassifier", world, three, parameters={"estimator": inner})
    verdict = judged(model, world, signature_of(classes=tuple(classes)))
    assert not verdict.kept
    assert "far from all data differ" in verdict.reason


def test_labels_that_were_chosen_among_infinities_are_no_answer(world: World) -> None:
    classes = np.array(["a", "b", "c"], object)
    three = classes[np.digitize(world.delay, np.quantile(world.delay, [0.3, 0.6]))]
    model = fitted("sklearn.linear_model.Perceptron", world, three)
    signature = Signature.of(COLUMNS, "classification", classes.tolist(), scored=False)
    verdict = judged(model, world, signature)
    assert verdict.kept, verdict
    twin = OnnxModel(onnx_of(model, signature), signature)
    far = {name: array[:1].copy() for name, array in world.arrays.items()}
    far["distance"][:] = far["wind speed/kt"][:] = np.finfo(np.float32).max
    with pytest.raises(ModelOutputInvalid):
        twin.predict(far)


def test_what_the_estimator_does_not_answer_is_not_asked_of_its_twin() -> None:
    world = world_of(300)
    world.arrays["distance"][:] = (world.arrays["distance"] / 1e5).astype(np.float32)
    model = fitted(TREE, world, world.late, numeric="impute_median_scale")
    original = SkopsModel(formats.dumps(model), signature_of())
    far = far_rows(signature_of(), world.arrays)
    known = answerable(original, far)
    assert 0 < len(known["distance"]) < len(far["distance"])
    assert judged(model, world, signature_of()).kept


def test_rows_beside_thresholds_ask_of_the_column_before_it_is_scaled(world: World) -> None:
    plain = fitted(TREE, world, world.late, parameters={"max_depth": 1})
    scaled = fitted(TREE, world, world.late, parameters={"max_depth": 1}, numeric="impute_median_scale")
    for model in (plain, scaled):
        rows = edge_rows(model, signature_of(), world.arrays)
        feature, threshold = model[-1].tree_.feature[0], model[-1].tree_.threshold[0]
        assert len(rows["distance"]) == 5
        transformed = model[0].transform(matrix(rows))[:, feature].astype(float)
        assert np.abs(transformed - threshold).max() < 1e-5
        assert (transformed.astype(np.float32) <= threshold).any()
        assert (transformed.astype(np.float32) > threshold).any()


def matrix(rows: Any) -> Any:
    made = np.empty((len(rows["distance"]), len(COLUMNS)), object)
    for index, column in enumerate(COLUMNS):
        made[:, index] = rows[column.name][:, 0]
    return made
