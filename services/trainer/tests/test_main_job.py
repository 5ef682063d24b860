"""A job from its request to a model version, with real processes."""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from trainers_at_work import Trainer, until


@pytest.fixture
def trainer(tmp_path, database_url, _sweep, key_folder, objects_url):
    database_url("trainer")
    _sweep("trainer")
    with Trainer(tmp_path, database_url, key_folder, objects_url) as trainer:
        yield trainer


def test_a_job_becomes_a_model_version(trainer):
    trainer.start()
    began = time.monotonic()
    id = trainer.submit()
    until(trainer.attempts)
    print("attempt folder", time.monotonic() - began)
    job = trainer.ended(id)
    print("ended", time.monotonic() - began)
    assert job["status"]["phase"] == "succeeded", job
    assert job["model"] == {"name": "delays", "version": 1, "digest": trainer.neighbours.models["delays"][0]["digest"]}
    print(job, trainer.log(id))
