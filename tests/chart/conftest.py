"""Charts as Helm renders them, once for all tests."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))  # for `manifests`
sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))  # the tools are programs, not a package

import helm
from manifests import Release, Render


def documents(text: str) -> list[Any]:
    # The C loader where there is one: rendered charts have thousands of lines.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [it for it in yaml.load_all(text, Loader=loader) if it]


@pytest.fixture(scope="session")
def render() -> Render:
    """A case of tools/helm.py by its name, with further `--set`s; each is rendered once."""
    known: dict[Any, Release] = {}
    cases = {case.name: case for case in helm.CASES}

    def rendered(name: str, *more: str, release: str = "") -> Release:
        key = (name, more, release)
        if key not in known:
            text = helm.template(cases[name], release=release, more=more)
            known[key] = Release(release or cases[name].chart, documents(text), text)
        return known[key]

    return rendered


@pytest.fixture(scope="session", params=[case.name for case in helm.CASES])
def release(request: pytest.FixtureRequest, render: Render) -> Release:
    """Every case in its turn."""
    return render(request.param)
