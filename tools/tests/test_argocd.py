"""The example for Argo CD names files and values that the chart has."""

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_the_application_names_what_is_there() -> None:
    application = yaml.safe_load((ROOT / "deploy/argocd/application.yaml").read_text())
    source = application["spec"]["source"]
    chart = ROOT / source["path"]
    assert source["targetRevision"] == f"v{yaml.safe_load((chart / 'Chart.yaml').read_text())['version']}"
    assert all((chart / name).is_file() for name in source["helm"]["valueFiles"])
    known = json.loads((chart / "values.schema.json").read_text())["properties"]
    assert source["helm"]["valuesObject"].keys() <= known.keys()
