"""Bundles through the trainer and its runner as processes."""

from datetime import timedelta
from typing import Any

from bundles_at_work import NEEDS_SANDBOX, archive_of, digest_of
from trainers_at_work import Trainer, until

pytestmark = NEEDS_SANDBOX
LOOSE = timedelta(seconds=90)
PROGRAM = """
import json, os, socket, sys
run = json.load(open(os.environ["TRAINYARD_RUN_FILE"]))
with socket.socket(socket.AF_UNIX) as s:
    s.connect(run["socket"])
    for step in range(1, 4):
        values = {"loss": run["parameters"]["lr"] / step}
        s.sendall(json.dumps({"type": "metrics", "step": step, "values": values}).encode())
        s.sendall(b"\\n")
folder = run["outputs"] + "/model"
os.makedirs(folder)
open(folder + "/model.onnx", "w").write("weights")
signature = {"task": "tensors", "classes": [], "inputs": [], "outputs": []}
formats = [{"format": "onnx", "path": "model.onnx"}]
json.dump({"formats": formats, "signature": signature}, open(folder + "/model.json", "w"))
print("rows", len(run["dataset"]["splits"]["train"]))
"""
LOOPING = "import time\nwhile True:\n    print('at work', flush=True)\n    time.sleep(0.2)\n"


def run(trainer: Trainer, program: str, **given: Any) -> str:
    archive = archive_of({"train.py": program})
    digest = digest_of(archive)
    assert trainer.http.put(f"/v1/bundles/{digest}", content=archive).status_code == 200
    body = {"kind": "bundle", "bundle": digest, "entrypoint": "train.py", "parameters": {"lr": 0.3}}
    answer = trainer.http.post("/v1/jobs", json=body | given)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_a_bundle_becomes_a_model_version_that_a_user_has_made(trainer: Trainer) -> None:
    trainer.start()
    id = run(trainer, PROGRAM, dataset="flights@3", register={"model": "digits"})
    job = trainer.ended(id, LOOSE)
    assert job["status"]["phase"] == "succeeded", (job, trainer.log(id))
    [version] = trainer.neighbours.models["digits"]
    assert job["model"] == {"name": "digits", "version": 1, "digest": version["digest"]}
    assert job["metrics"] == {"loss": 0.3 / 3}
    assert trainer.log(id) == ["Read 600 rows of flights@3.", "Attempt 1 was started.", "rows 1"]
    points = trainer.http.get(f"/v1/jobs/{id}/metrics").json()["items"]
    assert [(point["name"], point["step"]) for point in points] == [("loss", 1), ("loss", 2), ("loss", 3)]


def test_a_program_goes_on_while_its_runner_is_started_anew_and_a_cancel_ends_it(trainer: Trainer) -> None:
    trainer.start()
    id = run(trainer, LOOPING)
    until(lambda: "at work" in trainer.log(id))
    trainer.kill("runner")
    trainer.start("runner")
    until(lambda: "The runner was started anew, and took the job over." in trainer.log(id))
    assert trainer.http.post(f"/v1/jobs/{id}/cancel").status_code == 202
    job = trainer.ended(id, LOOSE)
    assert (job["status"]["phase"], job["attempt"]) == ("cancelled", 1)
    until(lambda: not trainer.attempts())


def test_a_mistake_of_the_program_is_said_and_not_repeated(trainer: Trainer) -> None:
    trainer.start()
    job = trainer.ended(run(trainer, "raise ValueError('no such column')"), LOOSE)
    status = job["status"]
    assert (status["phase"], status["reason"], job["attempt"]) == ("failed", "user-error", 1)
    assert status["message"].startswith("ValueError: no such column")
