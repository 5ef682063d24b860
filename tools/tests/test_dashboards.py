"""Dashboards, rules and the documentation speak of metrics that there are."""

import json
import re
from pathlib import Path
from typing import Any

import dashboards
import metric_names
import pytest
import yaml

RULES = dashboards.FOLDER.parent / "rules.yaml"
NAMES = list(dashboards.DASHBOARDS)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_is_what_the_tool_writes(name: str) -> None:
    assert (dashboards.FOLDER / f"{name}.json").read_text() == dashboards.text(name), "run tools/dashboards.py"


def test_there_is_no_other_dashboard() -> None:
    assert {it.stem for it in dashboards.FOLDER.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_asks_for_metrics_that_are_registered_with_their_labels(name: str) -> None:
    known = metric_names.registered()
    for panel in json.loads(dashboards.text(name))["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            asked = metric_names.named(expression)
            assert asked <= known.keys(), f"{panel['title']}: {asked - known.keys()}"
            labels = {"le", "job", "pod", "namespace", *(label for it in asked for label in known[it].labels)}
            wanted = [it.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for it in by.split(",")]
            assert set(wanted) <= labels, panel["title"]
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, panel["title"]


def test_panels_have_places_of_their_own() -> None:
    for name in NAMES:
        panels = dashboards.document(name)["panels"]
        places = {(it["gridPos"]["x"], it["gridPos"]["y"]) for it in panels}
        assert len(places) == len({it["id"] for it in panels}) == len(panels)


def test_rules_ask_for_metrics_that_are_registered() -> None:
    asked = metric_names.named("\n".join(rule["expr"] for rule in rules()))
    assert asked
    assert asked <= metric_names.registered().keys()


def test_every_rule_has_a_severity_a_summary_and_a_page_that_says_what_to_do() -> None:
    headings = re.findall(r"^### (\w+)$", dashboards.PAGE.read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"].endswith(f"observability.md#{rule['alert'].lower()}")


def test_the_page_tells_all_metrics_that_there_are() -> None:
    assert dashboards.page(dashboards.PAGE.read_text()) == dashboards.PAGE.read_text(), "run tools/dashboards.py"


def test_a_metric_is_found_however_it_is_written(tmp_path: Path) -> None:
    source = tmp_path / "libs/one/src/one/metrics.py"
    source.parent.mkdir(parents=True)
    source.write_text('A = Counter(\n    "trainyard_a_total", "What it means.", ["x", "y"]\n)\n')
    found = metric_names.registered(tmp_path)["trainyard_a_total"]
    assert (found.kind, found.means, found.labels) == ("counter", "What it means.", ("x", "y"))
