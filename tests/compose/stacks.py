"""The suite of docker-compose.yml as a project of its own: its own secrets, port, volumes."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOUBLED = ("ingest", "registry", "trainer", "serving", "pipelines")
PROJECT = "trainyard-test"
OWNED_BY = 65532


def say(message: str) -> None:
    """A line of progress, at once."""
    sys.stderr.write(f"  {message}\n")
    sys.stderr.flush()


@dataclass(frozen=True)
class Stack:
    folder: Path
    port: int
    environment: Mapping[str, str] = field(repr=False)

    @classmethod
    def made(cls, folder: Path, port: int) -> "Stack":
        """With secrets, and nothing running."""
        secrets_file = folder / ".env"
        subprocess.run([sys.executable, ROOT / "tools" / "compose_secrets.py", str(secrets_file)], check=True)
        told = {
            "TRAINYARD_PORT": str(port),
            "TRAINYARD_URL": f"http://127.0.0.1:{port}",
            "TRAINYARD_ADMIN": str(folder / "deploy" / "compose" / "admin"),
            "COMPOSE_PROGRESS": "plain",
        }
        return cls(folder, port, {**os.environ, **told})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def key(self) -> str:
        """Of the first admin, as the stack wrote it to the host."""
        return str(json.loads((self.folder / "deploy/compose/admin/credentials.json").read_text())["api_key"])

    def compose(self, *words: str, secrets_file: Path | None = None) -> "subprocess.CompletedProcess[str]":
        files = ["--file", "docker-compose.yml", "--file", "deploy/compose/local-images.yml"]
        told = ["--project-name", PROJECT, "--env-file", str(secrets_file or self.folder / ".env")]
        return self._run(["docker", "compose", *files, *told, *words])

    def docker(self, *words: str) -> str:
        """What docker says, when all is well."""
        done = self._run(["docker", *words])
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
        return done.stdout

    def containers(self, service: str = "") -> list[str]:
        """Ids of the containers that run, of one service or of all."""
        done = self.compose("ps", "--quiet", *([service] if service else []))
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    def inspect(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids)) if ids else []
        return found

    def is_healthy(self, container: str) -> bool:
        return self.docker("inspect", "--format", "{{.State.Health.Status}}", container).strip() == "healthy"

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "40").stdout

    def _run(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=ROOT, env=dict(self.environment), stdin=subprocess.DEVNULL, capture_output=True, text=True
        )


def name_of(found: Mapping[str, Any]) -> str:
    """Which service a container is of."""
    return str(found["Config"]["Labels"]["com.docker.compose.service"])


def unique(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(6)}"
