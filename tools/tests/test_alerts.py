"""Alert rules fire in the case that each is there for, and not in the ordinary one: played by promtool itself."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import dashboards
import pytest
import yaml

RULES = dashboards.FOLDER.parent / "rules.yaml"
CASES = Path(__file__).parent / "alerts" / "rules_test.yaml"


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("There is no promtool: install Debian's prometheus.")
        pytest.skip("NOT TESTED: alert rules. There is no promtool: install Debian's prometheus.")
    return found


def test_every_rule_fires_when_it_has_to(promtool: str, tmp_path: Path) -> None:
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]  # words; the cases are about numbers
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    shutil.copy(CASES, tmp_path)
    done = subprocess.run([promtool, "test", "rules", CASES.name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_case_in_which_it_fires() -> None:
    names = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    fired = re.findall(r"alertname: (\w+), exp_alerts: \[\{", CASES.read_text())
    assert set(fired) == names


def test_rules_are_well_formed(promtool: str) -> None:
    assert subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True).returncode == 0
