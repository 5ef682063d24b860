"""What docs/estimators.md says is so: a sample of it is trained, served and compared; `make estimators` is all."""

import re
from dataclasses import replace

import estimators_table as table
import pytest
from sklearn.utils import all_estimators

from models.estimator_skips import SKIPS
from models.estimators import ESTIMATORS

LINE = re.compile(r"^\| `(?P<path>[\w.]+)` \| (?P<answers>[^|]+) \| (?P<cells>.+) \|$", re.MULTILINE)
SAMPLE = [
    *("HistGradientBoostingClassifier", "RandomForestRegressor", "AdaBoostClassifier", "BaggingRegressor"),
    *("LogisticRegression", "RidgeClassifier", "LinearDiscriminantAnalysis", "GammaRegressor", "PLSCanonical"),
    *("SVC", "MLPRegressor", "CategoricalNB", "QuadraticDiscriminantAnalysis"),
    *("KNeighborsClassifier", "OneVsRestClassifier", "IsotonicRegression", "TunedThresholdClassifierCV"),
]


@pytest.fixture(scope="module")
def lines() -> dict[str, tuple[str, list[str]]]:
    found = LINE.finditer(table.PAGE.read_text())
    return {line["path"].rpartition(".")[2]: (line["answers"], line["cells"].split(" | ")) for line in found}


def test_every_estimator_of_scikit_learn_is_on_the_page(lines: dict[str, tuple[str, list[str]]]) -> None:
    assert set(lines) == {kind.name for kind in ESTIMATORS.values()}
    text = table.PAGE.read_text()
    assert all(f"| {name} | {reason} |" in text for name, reason in SKIPS.items())
    assert {name for name, _ in all_estimators()} == set(lines) | set(SKIPS)


def test_nothing_on_the_page_differs(lines: dict[str, tuple[str, list[str]]]) -> None:
    for name, (answers, cells) in lines.items():
        [kind] = [kind for kind in ESTIMATORS.values() if kind.name == name]
        assert answers
        for target, cell in zip(table.TASKS, cells, strict=True):
            if target not in table.targets_of(kind):
                assert cell == "-"
            else:
                assert re.fullmatch(r"skops, to the bit|ONNX, ≤ (1e-0[56])", cell), (name, cell)


@pytest.mark.parametrize("name", SAMPLE)
def test_what_the_page_says_of_an_estimator_is_so(name: str, lines: dict[str, tuple[str, list[str]]]) -> None:
    [kind] = [kind for kind in ESTIMATORS.values() if kind.name == name]
    answers, cells = lines[name]
    target = table.targets_of(kind)[-1]
    found = table.apart(kind, target)
    assert found is not None
    assert found.agrees, found
    assert found.answers in answers
    said = cells[list(table.TASKS).index(target)]
    assert said.partition(",")[0] == found.served, found.reason


def test_a_difference_is_seen() -> None:
    said = table.Served("ONNX", "labels and scores", 0.0, True)
    assert said.agrees
    assert not replace(said, difference=2e-5).agrees
    assert not replace(said, labels_equal=False).agrees
    assert not replace(said, served="skops", difference=1e-12).agrees
    assert table.cell_of(replace(said, labels_equal=False)) == "**differs**"
    assert table.cell_of(replace(said, difference=3e-6)) == "ONNX, ≤ 1e-05"
