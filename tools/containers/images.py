"""Our own images: which there are, how each is built, and how large it is."""

import configparser
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from containers import bases
from containers.engine import ROOT, Engine
from containers.shell import Cannot, run, say

REGISTRY = "ghcr.io/trainyard"
WHEELS = ROOT / "deploy" / "images" / "wheels"
LIMIT = 450_000_000
"""Bytes, uncompressed, of those that carry no framework."""
LIMITED = ("gateway", "registry", "ingest", "pipelines", "serving-onnx")
BUILDS = timedelta(minutes=20)
KEPT = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
"""Of pip's settings, those that mean the same in a build. Folders do not."""


@dataclass(frozen=True)
class Image:
    name: str
    file: str
    base: str = bases.BASE
    ordinary: bool = True
    """Whether it is built when nobody names it."""

    @property
    def tag(self) -> str:
        return f"{REGISTRY}/{self.name}:{version()}"


IMAGES = (
    *(Image(name, f"services/{name}/Dockerfile") for name in ("registry", "gateway", "pipelines", "ingest", "trainer")),
    Image("serving-onnx", "services/serving/onnx.Dockerfile"),
    Image("serving", "services/serving/Dockerfile"),
    Image("trainer-job", "services/trainer/job.Dockerfile"),
    Image("demo", "examples/flight-delays/Dockerfile"),
    Image("trainer-job-torch", "services/trainer/torch.Dockerfile", ordinary=False),
)


def version() -> str:
    match = re.search(r'^version = "(.+)"$', (ROOT / "libs/kit/pyproject.toml").read_text(), re.MULTILINE)
    if match is None:
        raise Cannot("libs/kit/pyproject.toml says no version.")
    return match[1]


def chosen(names: Sequence[str]) -> list[Image]:
    """Those with these names; the ordinary ones when there are none.

    Raises:
        Cannot: there is no such image.
    """
    if unknown := set(names) - {image.name for image in IMAGES}:
        raise Cannot(f"No image is called {', '.join(sorted(unknown))}.")
    return [image for image in IMAGES if image.name in names or (not names and image.ordinary)]


def build(engine: Engine, image: Image, revision: str, base: str | None = None) -> None:
    """One image, from the lock, over whatever pip of this machine asks."""
    tag = base or image.base
    bases.base(engine, tag)
    arguments = [f"BASE={tag}", f"VERSION={version()}", f"REVISION={revision}"]
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
        config.write(pip_settings())
        config.flush()
        engine.docker(
            *(
                "buildx",
                "build",
                "--network=host",
                "--quiet",
                "--load",
                "--file",
                ROOT / image.file,
                "--tag",
                image.tag,
            ),
            *(word for argument in arguments for word in ("--build-arg", argument)),
            *("--secret", f"id=pip,src={config.name}", ROOT),
            within=BUILDS,
        )


def pip_settings() -> str:
    """What this machine's pip is told of indexes and proxies, as a file for pip in a build."""
    listed = run(["python3", "-m", "pip", "config", "list"])
    settings = configparser.RawConfigParser()
    settings["global"] = {}
    for section, name, value in re.findall(r"^(:env:|global|install)\.([\w-]+)='(.*)'$", listed, re.MULTILINE):
        if name.strip(".") in KEPT and section in ("global", "install", ":env:") and "file:" not in value:
            settings["global"][name.strip(".")] = value.replace("\\n", "\n")
    lines = [f"{name} = {value}" for name, value in settings["global"].items()]
    return "\n".join(["[global]", *lines, ""])


def lay_wheels(requirement: str, python: str) -> None:
    """A wheel that this machine's pip finds, where builds look first."""
    say(f"fetching {requirement} for Python {python}")
    run(
        [
            *("python3", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
            *("--dest", WHEELS, "--python-version", python, requirement),
        ]
    )


def size(engine: Engine, image: Image) -> int:
    """Bytes, uncompressed."""
    return int(engine.docker("image", "inspect", "--format", "{{.Size}}", image.tag))


def sizes(engine: Engine) -> dict[str, int]:
    """Of all that are there."""
    return {image.name: size(engine, image) for image in IMAGES if bases.has(engine, image.tag)}


def too_large(found: dict[str, int]) -> list[str]:
    return [name for name in LIMITED if found.get(name, 0) > LIMIT]


def revision() -> str:
    try:
        return run(["git", "-c", f"safe.directory={ROOT}", "-C", ROOT, "rev-parse", "HEAD"]).strip()
    except Cannot:
        return "unknown"


def wheels_there(pattern: str) -> list[Path]:
    return sorted(WHEELS.glob(pattern))
