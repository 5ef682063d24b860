"""Models of LightGBM and XGBoost, in their own text and JSON forms, run by their own libraries.

Both libraries are optional, and are imported only where a model of theirs is loaded. Their pickles never are.
"""

import json
import re
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.matrix_models import MatrixModel
from models.runners import ModelUnloadable
from models.tensor_signature import AnySignature

MAX_REASON = 300
TEXT = re.compile(rb"tree\r?\nversion=v[0-9]{1,3}\r?\n")
NEEDED = (b"\nnum_class=", b"\nmax_feature_idx=", b"\nend of trees", b"\nparameters:", b"\nend of parameters")
"""Without some of these LightGBM reads what is not there, and ends the process."""


def lightgbm_model(content: bytes, signature: AnySignature) -> MatrixModel:
    """What `Booster.save_model` wrote, with all of its trees.

    Raises:
        ModelUnloadable: it is something else, or cut off, or of another shape than the signature.
    """
    if not TEXT.match(content) or not all(line in content for line in NEEDED):
        raise ModelUnloadable("The file is not the text of a LightGBM model, or is cut off.")
    lightgbm: Any = import_module("lightgbm")
    try:
        booster: Any = lightgbm.Booster(model_str=content.decode())
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise ModelUnloadable(f"LightGBM cannot read the file: {error}"[:MAX_REASON]) from error

    def ask(matrix: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(booster.predict(matrix, num_threads=1))

    features = booster.num_feature()
    answers = np.asarray(ask(np.zeros((1, features)))).size
    return MatrixModel(ask, signature, features=features, answers=answers, names=booster.feature_name())


def xgboost_model(content: bytes, signature: AnySignature) -> MatrixModel:
    """What `Booster.save_model` wrote, as JSON or Universal Binary JSON, with all of its trees.

    Raises:
        ModelUnloadable: it is something else, or cut off, or of another shape than the signature.
    """
    if not _is_whole(content):
        raise ModelUnloadable("The file is neither the JSON nor the UBJSON of an XGBoost model, or is cut off.")
    xgboost: Any = import_module("xgboost")
    booster: Any = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(content))
        booster.set_param({"nthread": 1, "device": "cpu"})
    except (xgboost.core.XGBoostError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelUnloadable(f"XGBoost cannot read the file: {first}"[:MAX_REASON]) from error

    def ask(matrix: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(booster.inplace_predict(matrix, validate_features=False))

    features = booster.num_features()
    answers = np.asarray(ask(np.zeros((1, features), np.float32))).size
    return MatrixModel(ask, signature, features=features, answers=answers, names=booster.feature_names or ())


def _is_whole(content: bytes) -> bool:
    """Both are one object, whose first member the second byte tells apart: a name in quotes, or its length."""
    if not content.startswith(b"{") or not content.rstrip().endswith(b"}"):
        return False
    if content[1:2] in (b"i", b"U", b"I", b"l", b"L"):
        return True
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False
