"""Models as skops files: the same bytes for the same model, and nothing loaded but what this platform writes."""

import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from skops import io as skops
from worlds import COLUMNS, World, columns_of, fitted, signature_of, world_of

from models import formats
from models.estimator_samples import sample_of
from models.estimators import ESTIMATORS, estimator_kind
from models.formats import ModelFileInvalid
from models.matrices import matrix_of
from models.preprocessing import kept, pipeline_of
from models.signature import Signature
from models.skops_models import SkopsModel

LOGISTIC = "sklearn.linear_model.LogisticRegression"
SMALL = {"n_estimators": 5, "max_iter": 5}


def small(path: str, world: World, **extra: Any) -> Any:
    kind = ESTIMATORS[path]
    parameters = {name: value for name, value in SMALL.items() if name in kind.parameters and not kind.scales}
    parameters = sample_of(kind, kind.task or "classification") | parameters | extra
    targets = world.delay if kind.task == "regression" else world.late
    if path.endswith(("PoissonRegressor", "GammaRegressor")):
        targets = targets - targets.min() + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a network that did not converge is good enough to be stored
        return fitted(path, world, targets, parameters=parameters)


@pytest.mark.parametrize("path", ESTIMATORS)
def test_every_estimator_loads_again_and_answers_to_the_last_bit(path: str) -> None:
    world = world_of(200)
    model = small(path, world)
    content = formats.dumps(model)
    again = formats.load(content, digest=formats.digest_of(content))
    matrix = matrix_of(Signature.of(columns_of(path), "regression"), world.arrays)
    for ask in ("predict", "predict_proba"):
        if hasattr(model, ask):
            np.testing.assert_array_equal(getattr(again, ask)(matrix), getattr(model, ask)(matrix))
    assert formats.dumps(again) == content


def test_what_is_kept_of_a_tuned_threshold_answers_as_it_did() -> None:
    world, path = world_of(300), "sklearn.model_selection.TunedThresholdClassifierCV"
    parameters = {"estimator": {"class": LOGISTIC}, "scoring": "f1"}
    kind = estimator_kind(path, parameters, "classification")
    signature = Signature.of(COLUMNS, "regression")
    tuned = pipeline_of(COLUMNS, kind, parameters, steps=kind.steps)
    tuned.fit(
        matrix_of(signature, world.arrays), world.late + 1
    )  # classes 1 and 2: to this score 1 is the positive one
    again = formats.load(formats.dumps(kept(tuned)))
    matrix = matrix_of(signature, world.arrays)
    assert again[-1].threshold == tuned[-1].best_threshold_
    np.testing.assert_array_equal(again.predict(matrix), tuned.predict(matrix))
    np.testing.assert_array_equal(again.predict_proba(matrix), tuned.predict_proba(matrix))


def test_a_label_of_two_equal_scores_is_that_of_predict() -> None:
    world = world_of(50)
    model = fitted(LOGISTIC, world, world.late)
    model[-1].coef_[:], model[-1].intercept_[:] = 0, 1e-18
    answer = SkopsModel(formats.dumps(model), signature_of()).predict(world.arrays)
    assert answer.scores is not None
    assert (answer.scores == 0.5).all()
    assert (answer.values == 1).all()


def test_the_trees_of_neighbours_are_in_no_file() -> None:
    world = world_of(50)
    model = fitted("sklearn.neighbors.KNeighborsClassifier", world, world.late)
    model[-1].set_params(algorithm="kd_tree").fit(
        model[0].transform(matrix_of(signature_of(), world.arrays)), world.late
    )
    with pytest.raises(ModelFileInvalid, match="KDTree"):
        formats.load(formats.dumps(model))


@pytest.mark.parametrize(
    ("path", "extra"),
    [
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"categorical_features": ["carrier"]}),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"early_stopping": True}),
        ("sklearn.neural_network.MLPClassifier", {"solver": "sgd", "early_stopping": True}),
        *(
            ("sklearn.ensemble.HistGradientBoostingRegressor", {"loss": loss, "quantile": 0.5})
            for loss in ("absolute_error", "quantile")
        ),
        *(
            ("sklearn.ensemble.GradientBoostingRegressor", {"loss": loss})
            for loss in ("absolute_error", "huber", "quantile")
        ),
        ("sklearn.ensemble.GradientBoostingClassifier", {"loss": "exponential"}),
        *((LOGISTIC, {"solver": solver}) for solver in ("newton-cg", "sag", "liblinear")),
        ("sklearn.linear_model.Ridge", {"positive": True}),
    ],
)
def test_every_choice_of_parameters_loads_again(path: str, extra: dict[str, Any]) -> None:
    content = formats.dumps(small(path, world_of(200), **extra))
    assert formats.dumps(formats.load(content)) == content


@pytest.mark.parametrize("path", ["HistGradientBoostingClassifier", "GradientBoostingClassifier"])
def test_more_than_two_classes_load_again(path: str) -> None:
    world = world_of(200)
    three = np.digitize(world.delay, np.quantile(world.delay, [0.3, 0.6]))
    content = formats.dumps(fitted(f"sklearn.ensemble.{path}", world, three))
    assert formats.dumps(formats.load(content)) == content


@pytest.mark.parametrize("loss", ["gamma", "poisson"])
def test_losses_of_positive_targets_load_again(loss: str) -> None:
    world = world_of(200)
    path = "sklearn.ensemble.HistGradientBoostingRegressor"
    content = formats.dumps(fitted(path, world, np.exp(world.delay / 10), parameters={"loss": loss}))
    assert formats.dumps(formats.load(content)) == content


PROGRAM = """
import sys
from models import formats
from worlds import fitted, world_of
world = world_of(300)
for name in ("sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.ensemble.RandomForestClassifier"):
    small = {"max_iter": 5} if "Hist" in name else {"n_estimators": 5}
    print(formats.digest_of(formats.dumps(fitted(name, world, world.late, parameters=small))))
"""


def test_two_processes_write_the_same_bytes() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    digests = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1]
    assert digests[0].startswith(b"sha256:")


def test_the_file_is_much_smaller_than_skops_own() -> None:
    model = small("sklearn.ensemble.RandomForestClassifier", world_of(200))
    assert len(formats.dumps(model)) * 4 < len(skops.dumps(model))


def test_gaps_between_the_fields_of_records_are_zero() -> None:
    aligned = np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8], "itemsize": 16})
    dirty, clean = (np.full(64, fill, np.uint8).view(aligned) for fill in (255, 0))
    for array in (dirty, clean):
        array["a"], array["b"] = 1, 2.5
    packed = []
    for array in (dirty, clean):
        buffer = io.BytesIO()
        np.save(buffer, array)
        packed.append(formats._canonical_array(buffer.getvalue()))
    assert packed[0] == packed[1]


def test_other_bytes_than_the_digest_names_are_refused() -> None:
    content = formats.dumps(small(LOGISTIC, world_of(100)))
    with pytest.raises(ModelFileInvalid, match="not those of"):
        formats.load(content, digest=formats.digest_of(content + b" "))


def changed(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The archive with its description changed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            inside = old.read(name)
            new.writestr(name, change(inside) if name == "schema.json" else inside)
    return packed.getvalue()


def planted(schema: bytes) -> bytes:
    """The first step's name replaced by a call."""
    tree = json.loads(schema)
    call = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "content": "x", "__id__": 1}
    tree["content"]["content"]["steps"]["content"].append(call)
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (planted, "os.system"),
        (lambda schema: schema.replace(b"ListNode", b"ReduceNode"), "ReduceNode"),
        (lambda schema: schema.replace(b'"protocol"', b'"nothing"'), "cannot be loaded"),
        (lambda schema: b"{", "not a skops file"),
        (lambda schema: b"[" * 100_000, "not a skops file"),
        (lambda schema: b"[]", "does not hold a pipeline"),
    ],
)
def test_a_changed_file_is_refused(change: Callable[[bytes], bytes], said: str) -> None:
    content = formats.dumps(small(LOGISTIC, world_of(100)))
    with pytest.raises(ModelFileInvalid, match=said):
        formats.load(changed(content, change))


def test_models_of_other_kinds_are_refused() -> None:
    clusters = Pipeline([("k", KMeans(2, n_init=1).fit(np.array([[0.0], [1.0], [2.0]])))])
    with pytest.raises(ModelFileInvalid, match="KMeans"):
        formats.load(skops.dumps(clusters))
    with pytest.raises(ModelFileInvalid, match=r"numpy\.linalg|norm"):
        formats.load(skops.dumps(Pipeline([("f", FunctionTransformer(np.linalg.norm))])))
    with pytest.raises(ModelFileInvalid, match="does not hold a pipeline"):
        formats.load(skops.dumps({"a": 1}))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04\x95pickle"])
def test_what_is_not_an_archive_is_refused(content: bytes) -> None:
    with pytest.raises(ModelFileInvalid, match="not a skops file"):
        formats.load(content)


def test_an_archive_without_a_description_is_refused() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.npy", b"")
    with pytest.raises(ModelFileInvalid, match="not a skops file"):
        formats.load(packed.getvalue())


def test_an_archive_that_unpacks_to_more_than_a_model_may_be_is_refused() -> None:
    content = bytearray(formats.dumps(small(LOGISTIC, world_of(100))))
    place = content.rindex(b"PK\x01\x02") + 24  # the unpacked size that the directory declares
    content[place : place + 4] = b"\xfe\xff\xff\xff"
    place = content.index(b"PK\x01\x02") + 24
    content[place : place + 4] = b"\xfe\xff\xff\xff"
    with pytest.raises(ModelFileInvalid, match="unpacks to more"):
        formats.load(bytes(content))
