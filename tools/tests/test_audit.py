"""What the audit takes for a finding, an answer and a reason."""

from datetime import date, timedelta
from pathlib import Path

import advisories
import audit
import floors
import licences
import pytest
import sbom
from audit import Finding, Justified, Pin

TODAY = date(2026, 12, 1)
HOLE = Finding("vulnerability", "starlette", "PYSEC-1", "1.0, fixed in 2.0", ("CVE-1",))
LOCK = """# made by make lock
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via scipy
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:cc
psycopg[binary]==3.3.9 \\
    --hash=sha256:dd
bare==1.0
"""


def entry(until: date = TODAY, what: str = "CVE-1") -> Justified:
    return Justified("vulnerability", "starlette", what, "because", until)


def test_a_lock_is_read_with_its_markers_and_extras() -> None:
    pins = [(pin.name, pin.version) for pin in audit.pins_of("x.txt", LOCK)]
    assert pins == [("numpy", "2.4.6"), ("numpy", "2.5.5"), ("psycopg", "3.3.9"), ("bare", "1.0")]


def test_a_pin_without_hash_and_a_part_at_odds_are_found(tmp_path: Path) -> None:
    lock = tmp_path / "constraints.txt"
    lock.write_text(LOCK)
    pins = [*audit.pins_of("constraints.txt", LOCK), Pin("numpy", "2.4.7", "requirements/run.txt")]
    told = [(finding.package, finding.what) for finding in audit.lock_findings([lock], pins)]
    assert told == [("bare", "no hash"), ("numpy", "differs")]


@pytest.mark.parametrize(
    ("name", "version", "breaks"),
    [
        ("starlette", "1.5.0", True),
        ("starlette", "1.5.1", False),
        ("starlette", "1.10.0", False),  # not by letters
        ("h11", "0.16.0rc1", True),
        ("python-jose", "99.0", True),
        ("numpy", "0.1", False),
    ],
)
def test_floors(name: str, version: str, breaks: bool) -> None:
    assert bool(floors.breach(name, version)) is breaks


def test_what_is_locked_here_keeps_the_floors() -> None:
    pins = [pin for lock in audit.ROOTS for pin in audit.pins_of(lock, (audit.ROOT / lock).read_text())]
    assert {"starlette", "onnx", "pyarrow", "skops"} <= {pin.name for pin in pins}
    assert list(audit.floor_findings(pins)) == []


@pytest.mark.parametrize(
    ("expression", "shipped", "refused"),
    [
        ("MIT", True, False),
        ("Apache-2.0 OR GPL-3.0", True, False),
        ("MIT AND GPL-3.0", True, True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True, True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False, False),
        ("(MIT OR GPL-3.0) AND (GPL-3.0 OR BSD-3-Clause)", True, False),
        ("Apache Software License; MIT License", True, False),
        ("Mozilla Public License 2.0 (MPL 2.0)", False, False),
        ("Mozilla Public License 2.0 (MPL 2.0)", True, True),
        ("UNKNOWN", False, True),
        ("", True, True),
        ("MIT AND", True, True),
        ("MIT (", True, True),
    ],
)
def test_licences(expression: str, shipped: bool, refused: bool) -> None:
    assert licences.refused(expression, shipped=shipped) is refused


def test_an_exception_holds_until_its_date_and_by_any_name() -> None:
    assert audit.judged([HOLE], [entry()], TODAY, complete=True) == ([], [(HOLE, entry())])
    assert audit.judged([HOLE], [entry(what="PYSEC-1")], TODAY, complete=True)[0] == []
    open_, _ = audit.judged([HOLE], [entry(TODAY - timedelta(days=1))], TODAY, complete=True)
    assert [finding.kind for finding in open_] == ["vulnerability", "exception"]


def test_an_exception_that_excuses_nothing_is_found_where_everybody_was_asked() -> None:
    assert [finding.kind for finding in audit.judged([], [entry()], TODAY, complete=True)[0]] == ["exception"]
    assert audit.judged([], [entry()], TODAY, complete=False) == ([], [])


def test_the_exceptions_of_this_repository_have_reasons_and_dates() -> None:
    for each in audit.exceptions(audit.EXCEPTIONS.read_text()):
        assert each.kind in ("vulnerability", "floor", "licence", "lock")
        assert len(each.reason) > 20
        assert each.until.year < 2028


def test_silence_about_one_package_is_no_clean_answer() -> None:
    clean = {"name": "A_b", "version": "1", "vulns": []}
    assert list(audit.told({"dependencies": [clean]}, {"a-b": "1"})) == []
    for silent in ([], [{"name": "a-b", "skip_reason": "Dependency not found on PyPI"}]):
        with pytest.raises(audit.NobodyAnswers, match="1 of 1 packages: a-b"):
            list(audit.told({"dependencies": silent}, {"a-b": "1"}))


def test_a_hole_is_told_with_its_other_names() -> None:
    hole = {"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": ["CVE-1"]}
    answer = {"dependencies": [{"name": "starlette", "version": "1.0", "vulns": [hole]}]}
    assert list(audit.told(answer, {"starlette": "1.0"})) == [HOLE]


def test_two_versions_of_one_package_are_asked_about_apart() -> None:
    assert audit.spread([("a", "1"), ("a", "2"), ("b", "1")]) == [{"a": "1", "b": "1"}, {"a": "2"}]


@pytest.mark.parametrize(
    ("version", "affected"),
    [("0.9", False), ("1.0", True), ("1.5", True), ("2.0", False), ("2.5", True), ("2.6", False), ("7.7.7", True)],
)
def test_ranges_and_lists_of_an_advisory(tmp_path: Path, version: str, affected: bool) -> None:
    (tmp_path / "PYSEC-1.yaml").write_text(
        """{id: PYSEC-1, aliases: [CVE-1], affected: [{package: {name: Some_Thing, ecosystem: PyPI,
        purl: "pkg:pypi/some-thing"}, versions: ["7.7.7"], ranges: [{type: ECOSYSTEM, events: [
        {introduced: "1.0"}, {fixed: "2.0"}, {introduced: "2.1"}, {last_affected: "2.5"}]}]}]}"""
    )
    told = list(advisories.matching(tmp_path, [("some-thing", version), ("other", "1.5")]))
    assert told == ([("some-thing", "PYSEC-1", f"{version}, fixed in 2.0", ("CVE-1",))] if affected else [])


def test_a_withdrawn_advisory_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "PYSEC-1.yaml").write_text(
        "{id: PYSEC-1, withdrawn: '2026-01-01', affected: [{package: {name: a, ecosystem: PyPI, "
        "purl: 'pkg:pypi/a'}, versions: ['1']}]}"
    )
    assert list(advisories.matching(tmp_path, [("a", "1")])) == []


def test_a_bill_has_what_an_image_installs() -> None:
    kept = sbom.installed(LOCK)
    assert "numpy==2.5.5" in kept
    assert "numpy==2.4.6" not in kept
    assert "--hash=sha256:cc" in kept
    assert "--hash=sha256:aa" not in kept
    assert "bare==1.0" in kept


def test_every_image_has_a_bill() -> None:
    names = [name for name, _ in sbom.locks(sbom.ROOT)]
    assert names[0] == "lock"
    assert {"gateway", "serving-onnx", "trainer-job"} <= set(names)
    assert "build" not in names
