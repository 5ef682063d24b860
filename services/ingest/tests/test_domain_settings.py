"""Settings as users write them."""

from typing import Any

import pytest
from pydantic import ValidationError

from ingest.domain.schema import BadColumnName, check_names
from ingest.domain.settings import DatasetSettings, Policy, digest_of

GOOD: dict[str, Any] = {
    "columns": [{"name": "a", "type": "integer"}, {"name": "t", "type": "timestamp"}],
    "nulls": ["NA"],
    "key": ["a"],
    "split": {"time": "t", "cut": "2013-11-01"},
    "checks": [{"column": "a", "check": "range", "min": 0}, {"check": "expression", "sql": "a > 0"}],
    "policy": "fail",
}


def test_settings_read_back_as_they_were_written() -> None:
    settings = DatasetSettings.model_validate(GOOD)
    assert DatasetSettings.model_validate(settings.document()) == settings
    assert settings.policy is Policy.FAIL
    assert settings.named() == ["a", "t", "a"]


def test_the_defaults_are_written_out() -> None:
    assert DatasetSettings().document() == {
        "columns": None,
        "nulls": [""],
        "key": [],
        "split": {"by": None, "held_out": 0.2, "seed": 0},
        "checks": [],
        "policy": "quarantine",
    }
    assert DatasetSettings().schema_given() is None


BAD: dict[str, dict[str, Any]] = {
    "an unknown setting": {"colour": "red"},
    "an unknown type": {"columns": [{"name": "a", "type": "float"}]},
    "no columns": {"columns": []},
    "a column twice": {"columns": [{"name": "a", "type": "date"}, {"name": "A", "type": "date"}]},
    "a name of ours": {"columns": [{"name": "__row", "type": "date"}]},
    "a key that is no column": {"columns": [{"name": "a", "type": "date"}], "key": ["b"]},
    "a key column twice": {"key": ["a", "a"]},
    "a check of no column": {
        "columns": [{"name": "a", "type": "date"}],
        "checks": [{"column": "b", "check": "unique"}],
    },
    "an unknown check": {"checks": [{"column": "a", "check": "positive"}]},
    "a range without ends": {"checks": [{"column": "a", "check": "range"}]},
    "a range without an end": {"checks": [{"column": "a", "check": "range", "max": float("inf")}]},
    "an enum of nothing": {"checks": [{"column": "a", "check": "enum", "values": []}]},
    "an unknown policy": {"policy": "ignore"},
    "everything held out": {"split": {"held_out": 1}},
    "less than nothing held out": {"split": {"held_out": -0.1}},
    "a split by nothing": {"split": {"by": []}},
    "a cut that is no moment": {"split": {"time": "t", "cut": "tomorrow"}},
    "a cut that only ISO calls a date": {"split": {"time": "t", "cut": "2020-W01-1"}},
    "a cut without dashes": {"split": {"time": "t", "cut": "20200101"}},
    "a cut on no day": {"split": {"time": "t", "cut": "2020-02-30"}},
    "two kinds of split": {"split": {"time": "t", "cut": "2020-01-01", "seed": 1}},
}


@pytest.mark.parametrize("settings", BAD.values(), ids=BAD.keys())
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DatasetSettings.model_validate(settings)


@pytest.mark.parametrize("cut", ["2013-11-01T12:00:00Z", "2013-11-01 12:00", "2013-11-01T12:00:00.5+01:00"])
def test_a_cut_may_be_a_moment(cut: str) -> None:
    DatasetSettings.model_validate({"split": {"time": "t", "cut": cut}})


def test_a_number_beyond_64_bits_is_taken_as_a_double() -> None:
    settings = DatasetSettings.model_validate({"checks": [{"column": "a", "check": "range", "max": 10**30}]})
    assert digest_of(settings.document())
    assert settings.document()["checks"][0]["max"] == 1e30


def test_the_digest_of_a_document_does_not_depend_on_its_order() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})


@pytest.mark.parametrize("names", [["a"] * 2, [""], [" "], ["a\n"], ["x" * 129], ["__x"], ["a", "b", "c", "d"]])
def test_names_that_cannot_be_told_or_written_are_refused(names: list[str]) -> None:
    with pytest.raises(BadColumnName):
        check_names(names, limit=3)


def test_ordinary_names_are_taken() -> None:
    check_names(["arr_delay", "Größe (cm)", "a;b"], limit=3)
