"""The trainer and its runner as processes: a whole job, and kills, stops and stand-stills in the middle of one."""

import contextlib
import os
import re
import signal
from datetime import timedelta
from pathlib import Path

import httpx2
import psutil
import pytest
from trainers_at_work import FINAL, QUICK, SLOW, Trainer, until

LOOSE = timedelta(seconds=90)
SOURCES = Path(__file__).parents[1] / "src"
# Some seconds of work on small data, and a small model.
SECONDS = {
    "class": "sklearn.neural_network.MLPClassifier",
    "parameters": {"hidden_layer_sizes": [8], "max_iter": 5000, "tol": 0.0, "n_iter_no_change": 10_000},
}


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def test_a_job_becomes_a_model_version(trainer: Trainer) -> None:
    trainer.start()
    id = trainer.submit()
    job = trainer.ended(id, LOOSE)
    [version] = trainer.neighbours.models["delays"]
    assert job["status"]["phase"] == "succeeded", job
    assert job["model"] == {"name": "delays", "version": 1, "digest": version["digest"]}
    assert job["metrics"]["roc_auc"] > 0.6
    log = trainer.log(id)
    assert log[:3] == ["Read 600 rows of flights@3.", "Attempt 1 was started.", "reading"]
    assert "fitting" in log
    until(lambda: not trainer.attempts())
    again = trainer.ended(trainer.submit(), LOOSE)  # the same training is the same version
    assert (again["model"], len(trainer.neighbours.models["delays"])) == (job["model"], 1)


def test_a_runner_that_was_killed_takes_its_child_over(trainer: Trainer) -> None:
    trainer.start()
    id = trainer.submit(estimator=SECONDS)
    pid = trainer.fitting(id)
    trainer.kill("runner")
    assert not gone(pid)
    trainer.start("runner")
    job = trainer.ended(id, LOOSE)
    assert (job["status"]["phase"], job["attempt"]) == ("succeeded", 1), job
    assert "The runner was started anew, and took the job over." in trainer.log(id)


def test_a_child_that_was_killed_is_tried_again_after_a_while(trainer: Trainer) -> None:
    trainer.start()
    id = trainer.submit(estimator=SECONDS)
    os.killpg(trainer.fitting(id), signal.SIGKILL)
    retrying = until(lambda: (job := trainer.job(id))["status"]["reason"] == "retrying" and job)
    assert "Attempt 1" in retrying["status"]["message"]
    job = trainer.ended(id, LOOSE)
    assert (job["status"]["phase"], job["attempt"]) == ("succeeded", 2), job


@pytest.mark.parametrize("ends", ["cancel", "deadline"])
def test_a_job_that_is_to_end_ends_with_all_its_processes(trainer: Trainer, ends: str) -> None:
    trainer.start()
    id = trainer.submit(estimator=SLOW, deadline="15s" if ends == "deadline" else "10m")
    processes = family(trainer.fitting(id))
    if ends == "cancel":
        assert trainer.http.post(f"/v1/jobs/{id}/cancel").status_code == 202
    status = trainer.ended(id, LOOSE)["status"]
    wanted = ("cancelled", "cancelled") if ends == "cancel" else ("failed", "deadline-exceeded")
    assert (status["phase"], status["reason"]) == wanted
    until(lambda: all(map(gone, processes)))
    until(lambda: not trainer.attempts())
    assert trainer.neighbours.models == {}


def test_a_job_that_takes_too_much_memory_fails_and_is_not_tried_again(trainer: Trainer) -> None:
    trainer.start(RUNNER_MEMORY_BYTES=str(60 << 20))
    job = trainer.ended(trainer.submit(), LOOSE)
    assert (job["status"]["phase"], job["status"]["reason"], job["attempt"]) == ("failed", "out-of-memory", 1)
    assert "60 MiB" in job["status"]["message"]


def test_a_runner_that_stood_still_past_its_lease_ends_what_is_not_its_own_any_more(trainer: Trainer) -> None:
    trainer.start(HEARTBEAT_TTL_SECONDS="2")
    id = trainer.submit(estimator=SLOW)
    pid = trainer.fitting(id)
    with trainer.frozen("runner"):
        until(lambda: trainer.job(id)["status"]["reason"] in ("retrying", "waiting-for-runner"), LOOSE)
    until(lambda: trainer.job(id)["attempt"] == 2 and trainer.job(id)["status"]["reason"] == "", LOOSE)
    until(lambda: gone(pid))
    assert len(trainer.attempts()) == 1
    trainer.http.post(f"/v1/jobs/{id}/cancel")
    assert trainer.ended(id, LOOSE)["status"]["phase"] == "cancelled"


def test_a_runner_that_is_stopped_costs_no_retry(trainer: Trainer) -> None:
    trainer.start()
    id = trainer.submit(estimator=SECONDS, retries=0)
    processes = family(trainer.fitting(id))
    assert trainer.stop("runner") == 0
    assert all(map(gone, processes))
    trainer.start("runner")
    job = trainer.ended(id, LOOSE)
    assert (job["status"]["phase"], job["attempt"]) == ("succeeded", 2), job


def points() -> set[str]:
    named = (re.findall(r'failpoint\("([^"]+)"', file.read_text()) for file in SOURCES.glob("**/*.py"))
    return {point for found in named for point in found}


@pytest.mark.slow
def test_a_kill_at_every_named_point_makes_one_model_version(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fired = tmp_path / "fired"
    fired.mkdir()
    monkeypatch.setenv("TRAINYARD_FAILPOINTS", ",".join(f"{point}=kill" for point in points()))
    monkeypatch.setenv("TRAINYARD_FAILPOINTS_DIR", str(fired))
    trainer.start(waits=False)
    body = {"dataset": "flights@3", "task": "classification", "target": "late", "estimator": QUICK}

    def supervised() -> bool:
        for name, process in list(trainer.processes.items()):
            if process.poll() is not None:
                del trainer.processes[name]
                trainer.start(name, waits=False)
        with contextlib.suppress(httpx2.TransportError):
            key = {"idempotency-key": "the job"}
            answer = trainer.http.post("/v1/jobs", json=body | {"register": {"model": "delays"}}, headers=key)
            if answer.status_code == 202:
                found = trainer.http.get(answer.headers["location"])
                return found.status_code == 200 and found.json()["status"]["phase"] in FINAL
        return False

    until(supervised, timedelta(seconds=600))
    [job] = trainer.http.get("/v1/jobs").json()["items"]
    assert (job["status"]["phase"], job["model"]["version"]) == ("succeeded", 1)
    assert len(trainer.neighbours.models["delays"]) == 1
    assert {path.name.removesuffix(".fired") for path in fired.iterdir()} == points()
