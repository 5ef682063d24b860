"""A fitted pipeline becomes ONNX: one input per column, label and scores (or a value) out, the same bytes every time.

The inputs are `column_0`, `column_1` … in the signature's order: the library rewrites names that are not identifiers,
and its own (`label`, `probabilities`) must not meet a column's. The real names are in the file's metadata.

Two converters are ours. Hist gradient boosting of scikit-learn 1.9 hands NumPy scalars, arrays and booleans to
`onnx.helper`, which refuses them: the library's own converter runs behind a container that makes them plain. The
timestamp transformer repeats `models.timestamps` in ONNX nodes.
"""

import json
from typing import Any

import numpy as np
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.algebra.onnx_ops import (
    OnnxAdd,
    OnnxCast,
    OnnxClip,
    OnnxConcat,
    OnnxDiv,
    OnnxEqual,
    OnnxIsNaN,
    OnnxMod,
    OnnxMul,
    OnnxSub,
    OnnxWhere,
)
from skl2onnx.common._registration import get_converter
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from skl2onnx.operator_converters.random_forest import (
    convert_sklearn_random_forest_classifier,
    convert_sklearn_random_forest_regressor_converter,
)
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.preprocessing import StandardScaler

from models.equivalents import ExactNumbers, equivalent
from models.signature import MISSING_TIME, Signature
from models.timestamps import CENTURY, DAY, ERA, FOUR_YEARS, HOUR, SHIFT, YEAR, TimestampParts

OPSET = 21
FLOAT, DOUBLE = 1, 11  # of onnx.TensorProto
TENSORS = {
    "number": FloatTensorType,
    "integer": FloatTensorType,
    "boolean": FloatTensorType,
    "string": StringTensorType,
    "timestamp": Int64TensorType,
}


def onnx_of(pipeline: Any, signature: Signature) -> bytes:
    """The pipeline as ONNX; whatever it raises means that there is no twin."""
    _register()
    pipeline = equivalent(pipeline)
    options = {id(pipeline[-1]): _options_of(pipeline[-1])} if signature.task == "classification" else None
    model = convert_sklearn(
        pipeline,
        name="trainyard",
        initial_types=[
            (f"column_{index}", TENSORS[column.type]([None, 1])) for index, column in enumerate(signature.inputs)
        ],
        options=options,
        target_opset=OPSET,
    )
    _require_plain(model)
    model.metadata_props.add(key="trainyard.columns", value=json.dumps(signature.names))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _require_plain(model: Any) -> None:
    """Serving runs twins in its own process: only what is seen through, no loops, branches and foreign code."""
    strange = {node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx.ml")}
    strange |= {node.op_type for node in model.graph.node for part in node.attribute if part.HasField("g")}
    if strange or model.functions:
        raise ValueError(f"serving's process runs no {', '.join(sorted(strange)) or 'functions'}")


def _options_of(classifier: Any) -> dict[str, bool]:
    """Scores as an array, and not as a list of dictionaries; some converters know no other way, and no option."""
    operator = sklearn_operator_name_map.get(type(classifier))
    known = {} if operator is None else get_converter(operator).get_allowed_options() or {}
    return {"zipmap": False} if "zipmap" in known else {}


class _Plain:
    """skl2onnx's container, with attributes as `onnx.helper` takes them; all else is the container's own."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def add_node(self, *args: Any, **attributes: Any) -> Any:
        """As the container does, with plain attributes."""
        return self._container.add_node(*args, **{name: _plain(value) for name, value in attributes.items()})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    convert_sklearn_random_forest_classifier(scope, operator, _Plain(container))


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    convert_sklearn_random_forest_regressor_converter(scope, operator, _Plain(container))


def _shape_of_parts(operator: Any) -> None:
    rows, columns = operator.inputs[0].type.shape
    operator.outputs[0].type = FloatTensorType([rows, 3 * columns])


def _convert_parts(scope: Any, operator: Any, container: Any) -> None:
    """hour, weekday and month as in `models.timestamps`, step by step."""
    nodes = _Integers(container.target_opset)
    times = operator.inputs[0]
    days = nodes.floor(times, DAY)
    hour = nodes.mod(nodes.floor(times, HOUR), 24)
    weekday = nodes.mod(nodes.add(days, 3), 7)

    day_of_era = nodes.mod(nodes.add(days, SHIFT), ERA)
    leaps = nodes.sub(day_of_era, nodes.floor(day_of_era, FOUR_YEARS))
    leaps = nodes.sub(nodes.plus(leaps, nodes.floor(day_of_era, CENTURY)), nodes.floor(day_of_era, ERA - 1))
    year_of_era = nodes.floor(leaps, YEAR)
    days_of_years = nodes.plus(nodes.mul(year_of_era, YEAR), nodes.floor(year_of_era, 4))
    day_of_year = nodes.sub(day_of_era, nodes.sub(days_of_years, nodes.floor(year_of_era, 100)))
    month_from_march = nodes.floor(nodes.add(nodes.mul(day_of_year, 5), 2), 153)
    month = nodes.add(nodes.mod(nodes.add(month_from_march, 2), 12), 1)

    version = container.target_opset
    missing = OnnxEqual(times, nodes.constant(MISSING_TIME), op_version=version)
    nothing = np.array([np.nan], np.float32)
    parts = [
        OnnxWhere(missing, nothing, OnnxCast(part, to=FLOAT, op_version=version), op_version=version)
        for part in (hour, weekday, month)
    ]
    OnnxConcat(*parts, axis=1, op_version=version, output_names=operator.outputs).add_to(scope, container)


def _shape_of_numbers(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType(operator.inputs[0].type.shape)


def _convert_numbers(scope: Any, operator: Any, container: Any) -> None:
    """Impute and scale in float64, step by step as scikit-learn does it, and only then go back to float32."""
    exact, version, numbers = operator.raw_operator, container.target_opset, operator.inputs[0]
    fill = np.asarray(exact.imputer.statistics_, np.float64).reshape(1, -1)
    if not np.isfinite(fill).all():
        raise ValueError("a column has no median")

    def step(node: Any, left: Any, right: Any) -> Any:
        made = node(left, np.asarray(right, np.float64).reshape(1, -1), op_version=version)
        if exact.narrow:
            made = OnnxCast(OnnxCast(made, to=FLOAT, op_version=version), to=DOUBLE, op_version=version)
        return made

    missing = OnnxIsNaN(numbers, op_version=version)
    known = OnnxWhere(missing, fill, OnnxCast(numbers, to=DOUBLE, op_version=version), op_version=version)
    if isinstance(exact.scaler, StandardScaler):
        kind = np.float32 if exact.narrow else np.float64  # it has its numbers as its columns are
        mean, scale = exact.scaler.mean_.astype(kind), exact.scaler.scale_.astype(kind)
        known = step(OnnxDiv, step(OnnxSub, known, mean), scale)
    elif exact.scaler is not None:
        known = step(OnnxAdd, step(OnnxMul, known, exact.scaler.scale_), exact.scaler.min_)
        low, high = (np.array(bound, np.float64) for bound in exact.scaler.feature_range)
        known = OnnxClip(known, low, high, op_version=version)
    OnnxCast(known, to=FLOAT, op_version=version, output_names=operator.outputs).add_to(scope, container)


class _Integers:
    """Integer arithmetic as ONNX nodes. ONNX divides towards zero and Python downwards, so the rest goes first."""

    def __init__(self, version: int) -> None:
        self._version = version

    def constant(self, value: int) -> Any:
        """A scalar that broadcasts."""
        return np.array([value], np.int64)

    def mod(self, left: Any, right: int) -> Any:
        """The rest, never negative."""
        return OnnxMod(left, self.constant(right), op_version=self._version)

    def floor(self, left: Any, right: int) -> Any:
        """Division downwards."""
        whole = OnnxSub(left, self.mod(left, right), op_version=self._version)
        return OnnxDiv(whole, self.constant(right), op_version=self._version)

    def add(self, left: Any, right: int) -> Any:
        """Plus a constant."""
        return OnnxAdd(left, self.constant(right), op_version=self._version)

    def mul(self, left: Any, right: int) -> Any:
        """Times a constant."""
        return OnnxMul(left, self.constant(right), op_version=self._version)

    def plus(self, left: Any, right: Any) -> Any:
        """The sum of two."""
        return OnnxAdd(left, right, op_version=self._version)

    def sub(self, left: Any, right: Any) -> Any:
        """The difference of two."""
        return OnnxSub(left, right, op_version=self._version)


def _register() -> None:
    classifier_options = {
        "zipmap": [True, False, "columns"],
        "raw_scores": [True, False],
        "output_class_labels": [False, True],
        "nocl": [True, False],
    }
    update_registered_converter(
        HistGradientBoostingClassifier,
        "SklearnHistGradientBoostingClassifier",
        calculate_linear_classifier_output_shapes,
        _convert_classifier,
        options=classifier_options,
    )
    update_registered_converter(
        HistGradientBoostingRegressor,
        "SklearnHistGradientBoostingRegressor",
        calculate_linear_regressor_output_shapes,
        _convert_regressor,
    )
    update_registered_converter(TimestampParts, "TrainyardTimestampParts", _shape_of_parts, _convert_parts)
    update_registered_converter(ExactNumbers, "TrainyardExactNumbers", _shape_of_numbers, _convert_numbers)
