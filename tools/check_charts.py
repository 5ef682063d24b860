"""Judge the charts, and the Dockerfiles beside them; a table at the end. Asks nothing of the network once its programs
are here.

    .cache/checks/bin/python tools/check_charts.py

  schemas      values.schema.json are those that the settings make (tools/chart_schemas.py)
  lint         `helm lint --strict` of every chart, with every file of values
  render       every case of tools/helm.py; packed, the suite's chart renders the same
  refused      bad values, each with words that name it
  kubernetes   every document against the schemas of Kubernetes 1.31 to 1.36, strictly
  checkov      its findings less those that deploy/helm/checkov.yaml gives a reason for, all of which must be there
  hadolint     every Dockerfile
  yamllint     values, charts, examples
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm
import yaml

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(sys.executable).parent
PYTHON = ROOT / ".venv" / "bin" / "python"
KUBERNETES = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36")
SKIPS = helm.CHARTS / "checkov.yaml"
BAD: Sequence[tuple[str, Sequence[str], str]] = (
    ("trainyard", ["profile=prod"], "at '/profile': value must be one of 'production', 'dev'"),
    ("trainyard", ["databse.existingSecret=x"], "additional properties 'databse' not allowed"),
    ("trainyard", ["database.existingSecret=Not_A_Name"], "at '/database/existingSecret'"),
    ("trainyard", ["database.url=postgresql://u:p@h/d"], "additional properties 'url' not allowed"),
    ("trainyard", ["objects.url=file:///data"], "at '/objects/url'"),
    ("trainyard", ["objects.endpoint=minio:9000"], "at '/objects/endpoint'"),
    ("trainyard", ["objects.secretAccessKey=x"], "additional properties 'secretAccessKey' not allowed"),
    ("trainyard", ["otlp.endpoint=collector:4317"], "at '/otlp/endpoint'"),
    ("trainyard", ["drainSeconds=-1"], "at '/drainSeconds'"),
    ("trainyard", ["drainSeconds=soon"], "at '/drainSeconds': got string, want integer"),
    ("trainyard", ["api.replicas=two"], "at '/api/replicas': got string, want integer"),
    ("trainyard", ["extraEnv.GATEWAY_IN_FLIGHT=1"], "additional properties 'extraEnv' not allowed"),
    ("trainyard", ["gateway.extraEnv.GATEWAY_IN_FLIHGT=1"], "additional properties 'GATEWAY_IN_FLIHGT' not allowed"),
    ("trainyard", ["gateway.extraEnv.INGEST_WORKERS=1"], "additional properties 'INGEST_WORKERS' not allowed"),
    ("trainyard", ["gateway.extraEnv.GATEWAY_DATABASE_URL=x"], "additional properties 'GATEWAY_DATABASE_URL' not"),
    ("trainyard", ["ingest.extraEnv.AWS_SECRET_ACCESS_KEY=x"], "additional properties 'AWS_SECRET_ACCESS_KEY' not"),
    ("trainyard", ["serving.image.variant=gpu"], "at '/image/variant': value must be one of 'full', 'onnx'"),
    ("trainyard", ["serving.image.digest=latest"], "at '/image/digest'"),
    ("trainyard", ["trainer.runner.image.name=mine"], "at '/runner/image/name'"),
    ("trainyard", ["trainer.runner.slots=0"], "at '/runner/slots': minimum: got 0, want 1"),
    ("trainyard", ["gateway.httpRoute.enabled=true"], "at '/httpRoute/parentRefs': minItems"),
    ("trainyard", ["gateway.peers.training.url=http://x"], "additional properties 'training' not allowed"),
    ("trainyard", ["networkPolicy.database.ports[0]=70000"], "at '/networkPolicy/database/ports/0': maximum"),
    ("trainyard", ["migrate.mode=sometimes"], "at '/migrate/mode'"),
    ("trainyard", ["database.prepare.enabled=true"], "database.prepare.existingSecret: which Secret"),
    ("trainyard", ["profile=dev", "keys.create=false"], "profile: dev needs keys.create"),
    ("trainyard", ["database.prepare.enabled=true", "database.singleRole=true"], "a role for each service"),
    ("trainyard", [f"{service}.enabled=false" for service in helm.SERVICES], "No service is enabled"),
    *((service, ["replicas=3"], "additional properties 'replicas' not allowed") for service in helm.SERVICES),
    ("registry", ["ingress.enabled=true"], "additional properties 'ingress' not allowed"),
    ("ingest", ["jobs.enabled=true"], "additional properties 'jobs' not allowed"),
)


@dataclass(frozen=True)
class Outcome:
    """Of one check: how much was looked at, and what is wrong with it."""

    looked_at: str
    mistakes: Sequence[str]


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        try:
            rendered = write_cases(Path(folder))
        except (helm.Refused, helm.Missing) as exc:
            sys.stdout.write(f"✘ {exc}\n")
            return 1
        checks: dict[str, Callable[[], Outcome]] = {
            "kubernetes": lambda: kubernetes(rendered),
            "checkov": lambda: checkov(rendered),
            "schemas": schemas,
            "lint": lint,
            "render": lambda: packed(Path(folder), rendered),
            "refused": refused,
            "hadolint": hadolint,
            "yamllint": yamllint,
        }
        outcomes = dict(zip(checks, pool.map(timed, checks.values()), strict=True))
    for name, (outcome, _) in outcomes.items():
        sys.stdout.writelines(f"{name}: {mistake}\n" for mistake in outcome.mistakes)
    sys.stdout.writelines(f"{line}\n" for line in table(outcomes))
    failed = sum(bool(outcome.mistakes) for outcome, _ in outcomes.values())
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n{len(outcomes) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


def timed(check: Callable[[], Outcome]) -> tuple[Outcome, float]:
    began = time.monotonic()
    try:
        outcome = check()
    except (OSError, ValueError, helm.Refused, subprocess.SubprocessError) as exc:
        outcome = Outcome("-", [f"could not be asked: {exc}"])
    return outcome, time.monotonic() - began


def table(outcomes: dict[str, tuple[Outcome, float]]) -> Iterator[str]:
    yield ""
    for name, (outcome, seconds) in outcomes.items():
        mark = f"✘ {len(outcome.mistakes)}" if outcome.mistakes else "✔"
        yield f"{name:<11} {mark:<5} {seconds:5.1f} s  {outcome.looked_at}"


def write_cases(folder: Path) -> list[Path]:
    """A file for each case, as rendered."""
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(helm.template, helm.CASES))
    files = []
    for case, text in zip(helm.CASES, texts, strict=True):
        files.append(folder / f"{case.name}.yaml")
        files[-1].write_text(text)
    return files


def ran(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)


def schemas() -> Outcome:
    code = "import sys, chart_schemas; sys.exit(any(p.read_text() != t for p, t in chart_schemas.schemas().items()))"
    done = subprocess.run([PYTHON, "-c", code], cwd=ROOT / "tools", capture_output=True, text=True)
    said = done.stderr.strip().splitlines()[-1:] or ["not current: run tools/chart_schemas.py"]
    return Outcome(f"{len(helm.SERVICES) + 1} files", said if done.returncode else [])


def lint() -> Outcome:
    """Each chart by itself, and the suite's with each file of values."""
    asked: list[list[str]] = [[chart] for chart in ("lib", *helm.SERVICES)]
    asked += [["trainyard", *(f"--values=trainyard/{it}" for it in case.values), *(f"--set={it}" for it in case.sets)]
              for case in helm.CASES if case.chart == "trainyard"]  # fmt: skip
    mistakes = []
    for arguments in asked:
        try:
            helm.run("lint", "--strict", f"--kube-version={helm.KUBERNETES}", *arguments)
        except helm.Refused as exc:
            mistakes.append(f"{' '.join(arguments)}: {exc}")
    return Outcome(f"{len(asked)} times", mistakes)


def packed(folder: Path, rendered: Sequence[Path]) -> Outcome:
    """What users get as an archive is what is in the folder."""
    helm.run("package", "trainyard", f"--destination={folder}")
    archive = next(folder.glob("trainyard-*.tgz"))
    known = [f"--kube-version={helm.KUBERNETES}", "--namespace=trainyard"]
    again = helm.run("template", "trainyard", str(archive), *known)
    same = documents(again) == documents((folder / "default.yaml").read_text())
    return Outcome(f"{len(rendered)} cases", [] if same else ["the packed chart renders something else"])


def refused() -> Outcome:
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda bad: refusal(bad[0], bad[1]), BAD))
    mistakes = [
        f"{chart} with {', '.join(sets)}: {'accepted' if words is None else words}"
        for (chart, sets, expected), words in zip(BAD, said, strict=True)
        if words is None or expected not in words
    ]
    return Outcome(f"{len(BAD)} bad values", mistakes)


def refusal(chart: str, sets: Sequence[str]) -> str | None:
    try:
        helm.template(helm.Case("bad", chart, sets=sets))
    except helm.Refused as exc:
        return str(exc)
    return None


def documents(text: str) -> list[Any]:
    # The C loader where there is one: rendered charts have thousands of lines.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [it for it in yaml.load_all(text, Loader=loader) if it]


def unique(rendered: Sequence[Path]) -> list[str]:
    """Every document once, as JSON, which is YAML too."""
    texts = {json.dumps(it, sort_keys=True) for file in rendered for it in documents(file.read_text())}
    return sorted(texts)


def kubernetes(rendered: Sequence[Path]) -> Outcome:
    """Kinds that Kubernetes does not have itself are left to those who bring them."""
    texts = unique(rendered)
    mistakes = []
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("\n---\n".join(texts))
        file.flush()
        for version in KUBERNETES:
            done = ran(PROGRAMS / "kubernetes-validate", "-k", version, "--strict", "--quiet", "--no-warn", file.name)
            if done.returncode:
                lines = (done.stdout + done.stderr).strip().splitlines()
                mistakes += [f"{version}: {line.replace(file.name, '')}" for line in lines[-20:]]
    return Outcome(f"{len(texts)} documents, {KUBERNETES[0]} to {KUBERNETES[-1]}", mistakes)


def checkov(rendered: Sequence[Path]) -> Outcome:
    """Findings without a reason, and reasons without a finding."""
    reasons: list[dict[str, str]] = yaml.safe_load(SKIPS.read_text())
    with tempfile.TemporaryDirectory() as folder:
        for number, text in enumerate(unique(rendered)):
            (Path(folder) / f"{number:03}.yaml").write_text(yaml.safe_dump(json.loads(text)))
        arguments = ["--framework=kubernetes", "--skip-download", "--quiet", "--compact", "--output=json"]
        done = ran(PROGRAMS / "checkov", f"--directory={folder}", *arguments)
    report = json.loads(done.stdout)
    found = [(it["check_id"], it["resource"], it["check_name"]) for it in report["results"]["failed_checks"]]
    used = {n for n, reason in enumerate(reasons) for it in found if covers(reason, it[0], it[1])}
    mistakes = [
        f"{check} {resource}: {name}"
        for check, resource, name in sorted(set(found))
        if not any(covers(reason, check, resource) for reason in reasons)
    ]
    mistakes += [f"{SKIPS.name}: nothing needs {it['check']} any more" for n, it in enumerate(reasons) if n not in used]
    mistakes += [f"{SKIPS.name}: {it['check']} has no reason" for it in reasons if len(it.get("reason", "")) < 20]
    return Outcome(f"{report['summary']['passed']} passed, {len(found)} found, {len(reasons)} reasons", mistakes)


def covers(reason: dict[str, str], check: str, resource: str) -> bool:
    return reason["check"] == check and re.fullmatch(reason.get("resources", ".*"), resource) is not None


def hadolint() -> Outcome:
    tracked = ran("git", "ls-files", "--cached", "--others", "--exclude-standard", "*Dockerfile").stdout.split()
    files = [file for file in tracked if (ROOT / file).exists()]
    if not files:
        return Outcome("none", [])
    done = ran(PROGRAMS / "hadolint", "--no-color", "--config=.hadolint.yaml", *files)
    return Outcome(
        f"{len(files)} files", done.stdout.splitlines() + done.stderr.splitlines() if done.returncode else []
    )


def yamllint() -> Outcome:
    patterns = ("deploy/helm/*/values*.yaml", "deploy/helm/*/Chart.yaml", "deploy/helm/*/ci/*.yaml",
                "deploy/helm/*.yaml", "deploy/helm/trainyard/files/*.yaml", "deploy/argocd/*.yaml")  # fmt: skip
    files = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    done = ran(PROGRAMS / "yamllint", "--strict", "--format=parsable", "--config-file=.yamllint.yaml", *files)
    return Outcome(f"{len(files)} files", done.stdout.splitlines() if done.returncode else [])


if __name__ == "__main__":
    sys.exit(main())
