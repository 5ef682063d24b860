"""What a runner child cannot do any more, tried in a process of its own."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TRIES = """
import json, os, resource, socket, sys, threading
from pathlib import Path
from serving.runner.confining import confine

models, secret, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
holds = confine(1 << 30, models if sys.argv[4] == "models" else None)

def tried(work):
    try:
        return str(work())
    except OSError as error:
        return type(error).__name__

def written(path):
    with path.open("wb") as file:
        file.write(b"x")
        file.flush()

def eaten():
    try:
        return len(bytearray(2 << 30))
    except MemoryError:
        return "MemoryError"

said = {
    "read": tried(lambda: (models / "a").read_text()),
    "listed": tried(lambda: os.listdir(models)),
    "secret": tried(secret.read_text),
    "environ": tried(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
    "written": tried(lambda: written(models / "b")),
    "removed": tried((models / "a").unlink),
    "connected": tried(lambda: socket.create_connection(("127.0.0.1", port), 2)),
    "eaten": eaten(),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "cores": resource.getrlimit(resource.RLIMIT_CORE),
    "privileges": [it for it in Path("/proc/self/status").read_text().splitlines() if it.startswith("NoNewPrivs")],
}
threading.Thread(target=print).start()
import onnxruntime
print(json.dumps({**said, "holds": sorted(holds)}))
"""


def confined(folder: Path, port: int = 1, how: str = "models") -> dict[str, Any]:
    models, secret = folder / "models", folder / "secret"
    models.mkdir()
    (models / "a").write_text("model")
    secret.write_text("secret")
    arguments = [sys.executable, "-c", TRIES, str(models), str(secret), str(port), how]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
    said: dict[str, Any] = json.loads(done.stdout.strip())
    return said


def test_resources_are_limited_everywhere(tmp_path: Path) -> None:
    said = confined(tmp_path, how="nothing")
    assert (said["written"], said["eaten"]) == ("OSError", "MemoryError")
    assert (said["files"], said["cores"]) == ([256, 256], [0, 0])
    if sys.platform == "linux":
        assert said["privileges"] == ["NoNewPrivs:\t1"]


def test_a_model_reads_models_by_name_and_nothing_else(tmp_path: Path) -> None:
    said = confined(tmp_path)
    if "files" not in said["holds"]:
        pytest.skip("this kernel has no Landlock: files are not kept from a child here")
    assert said["read"] == "model"
    for what in ("listed", "secret", "environ", "written", "removed"):
        assert said[what] == "PermissionError", what


def test_a_model_reaches_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        said = confined(tmp_path, listening.getsockname()[1])
    if "network" not in said["holds"]:
        pytest.skip("namespaces are not allowed here: the network is not kept from a child")
    assert said["connected"].endswith("Error")
