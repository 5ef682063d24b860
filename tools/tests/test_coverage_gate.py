"""What is covered too little."""

import json
from pathlib import Path
from typing import Any

import coverage_gate
import pytest


def report_of(files: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Of each file: lines covered, lines in all."""
    return {
        "files": {
            name: {
                "summary": {"covered_lines": covered, "num_statements": lines},
                "missing_lines": list(range(covered + 1, lines + 1)),
            }
            for name, (covered, lines) in files.items()
        }
    }


def judged(tmp_path: Path, files: dict[str, tuple[int, int]]) -> int:
    report = tmp_path / "coverage.json"
    report.write_text(json.dumps(report_of(files)))
    return coverage_gate.main([str(report)])


def test_a_whole_domain_and_ninety_percent_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "services/trainer/src/trainer/domain/jobs.py": (50, 50),
        "services/trainer/src/trainer/app.py": (90, 100),
        "services/trainer/src/trainer/empty.py": (0, 0),
        "libs/kit/src/kit/db.py": (9, 9),
    }
    assert judged(tmp_path, files) == 0
    assert capsys.readouterr().out.splitlines() == [
        "kit               100.0 %  of 9 lines",
        "trainer            93.3 %  of 150 lines",
    ]


@pytest.mark.parametrize("path", ["services/trainer/src/trainer/domain/jobs.py", "libs/kit/src/kit/db.py"])
def test_one_line_of_a_domain_or_the_kit_is_one_too_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    assert judged(tmp_path, {path: (999, 1000)}) == 1
    assert f"✘ {path}: every line is to be covered, these are not: 1000" in capsys.readouterr().out


def test_the_rest_is_judged_without_its_domain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"services/x/src/x/domain/a.py": (1000, 1000), "services/x/src/x/app.py": (89, 100)}
    assert judged(tmp_path, files) == 1
    assert "✘ x: 89.0 % of the lines beside domain/" in capsys.readouterr().out
