"""Hours, weekdays and months, in scikit-learn and in ONNX, against Python's own calendar."""

from datetime import UTC, datetime, timedelta

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from models.conversions import onnx_of
from models.onnx_models import OnnxModel
from models.signature import MISSING_TIME, Field, Signature
from models.timestamps import DAY, TimestampParts

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_parts_are_those_of_the_calendar_from_1600_to_2400() -> None:
    random = np.random.default_rng(0)
    times = random.integers(-370 * 365 * DAY, 430 * 365 * DAY, 5000)
    leaps = [datetime(year, month, 1, tzinfo=UTC) for year in (1900, 1972, 2000, 2100) for month in (1, 2, 3, 12)]
    edges = [(leap - EPOCH) // timedelta(microseconds=1) + shift for leap in leaps for shift in (-1, 0)]
    times = np.concatenate([times, edges])
    moments = [EPOCH + timedelta(microseconds=int(time)) for time in times]
    wanted = [(moment.hour, moment.weekday(), moment.month) for moment in moments]
    parts = TimestampParts().fit_transform(times[:, None].astype(object))
    assert parts.dtype == np.float32
    assert list(map(tuple, parts.astype(int))) == wanted


def test_a_missing_time_has_no_parts_and_columns_keep_their_order() -> None:
    transformer = clone(TimestampParts())
    times = np.array([[0, MISSING_TIME], [DAY + 3_600_000_000, 40 * DAY]])
    parts = transformer.fit_transform(times)
    np.testing.assert_array_equal(parts, [[0, np.nan, 3, np.nan, 1, np.nan], [1, 0, 4, 1, 1, 2]])


def test_onnx_has_the_same_parts_to_the_last_bit() -> None:
    random = np.random.default_rng(1)
    times = random.integers(-100 * 365 * DAY, 200 * 365 * DAY, (20_000, 1))
    parts = TimestampParts().fit_transform(times)
    signature = Signature.of([Field("t", "timestamp")], "regression")
    # Each part alone, and weighted so that a wrong one cannot hide behind another.
    estimator = LinearRegression().fit(parts, parts @ [10_000, 100, 1])
    estimator.coef_, estimator.intercept_ = np.array([10_000.0, 100.0, 1.0]), 0.0
    model = OnnxModel(onnx_of(Pipeline([("parts", TimestampParts()), ("sum", estimator)]), signature), signature)
    np.testing.assert_array_equal(model.predict({"t": times}).values, parts @ np.array([10_000, 100, 1], np.float32))
    assert np.isnan(model.predict({"t": np.array([[MISSING_TIME]])}).values).all()
