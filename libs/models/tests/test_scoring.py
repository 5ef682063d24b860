"""Metrics are those of the books, and the baseline is a table of rates."""

import numpy as np
import pytest

from models.scoring import classification_metrics, regression_metrics, smoothed_means


def test_a_perfect_order_of_two_classes() -> None:
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    found = classification_metrics(np.array([0, 0, 1]), scores, np.array([0, 1]))
    assert found["roc_auc"] == found["average_precision"] == found["accuracy"] == 1
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.6, 0.6]).mean())


def test_three_classes_are_scored_each_against_the_rest() -> None:
    scores = np.eye(3)[[0, 1, 2, 0]] * 0.8 + 0.2 / 3
    found = classification_metrics(np.array([0, 1, 2, 1]), scores, np.array(["a", "b", "c"]))
    assert found["accuracy"] == 0.75
    assert 0.5 < found["roc_auc"] < 1


def test_one_class_alone_has_no_order() -> None:
    found = classification_metrics(np.array([1, 1]), np.array([[0.1, 0.9], [0.4, 0.6]]), np.array([0, 1]))
    assert set(found) == {"accuracy", "log_loss"}


def test_regression_is_measured_in_the_target_s_own_unit() -> None:
    found = regression_metrics(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0]))
    assert found == pytest.approx({"rmse": np.sqrt(4 / 3), "mae": 2 / 3, "r2": -1.0})
    assert "r2" not in regression_metrics(np.array([1.0]), np.array([1.0]))


def test_the_baseline_draws_small_groups_towards_the_mean_of_all() -> None:
    carrier = np.array(["AA"] * 100 + ["UA"] * 2, object)
    hour = np.array([6.0] * 102, np.float32)
    late = np.array([0.0] * 50 + [1.0] * 50 + [1.0, 1.0])[:, None]
    asked = [np.array(["AA", "UA", "XX", "AA"], object), np.array([6.0, 6.0, 6.0, np.nan], np.float32)]
    overall = 52 / 102
    rates = smoothed_means([carrier, hour], late, asked, strength=20)[:, 0]
    assert rates == pytest.approx([(50 + 20 * overall) / 120, (2 + 20 * overall) / 22, overall, overall])


def test_missing_values_are_a_group_of_their_own() -> None:
    hour = np.array([np.nan] * 50 + [1.0] * 50, np.float32)
    late = np.repeat([[1.0], [0.0]], 50, axis=0)
    rates = smoothed_means([hour], late, [np.array([np.nan, 1.0], np.float32)], strength=0)
    assert rates[:, 0].tolist() == [1.0, 0.0]
