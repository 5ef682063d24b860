"""Files of models as their own libraries write them."""

from pathlib import Path

import joblib  # type: ignore[import-untyped]
import pytest
import skl2onnx
import skops.io
from model_files import SOUND, check
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from registry.domain.formats import UnsafeModel


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    data, target = load_iris(return_X_y=True)
    model = make_pipeline(
        make_column_transformer((StandardScaler(), [0, 1]), remainder="passthrough"),
        RandomForestClassifier(3, random_state=0),
    ).fit(data, target)
    folder = Path(tmp_path_factory.mktemp("real"))
    joblib.dump(model, folder / "plain")
    joblib.dump(model, folder / "packed", compress=("xz", 3))
    return {
        "onnx": skl2onnx.to_onnx(model, data[:1]).SerializeToString(),
        "skops": skops.io.dumps(model),
        **{name: (folder / name).read_bytes() for name in ("plain", "packed")},
    }


@pytest.mark.parametrize("format", ["onnx", "skops"])
def test_what_the_libraries_write_is_taken(real: dict[str, bytes], format: str) -> None:
    check(format, real[format])


@pytest.mark.parametrize("name", ["plain", "packed"])
def test_what_joblib_writes_is_not(real: dict[str, bytes], name: str) -> None:
    for format in SOUND:
        with pytest.raises(UnsafeModel):
            check(format, real[name])
