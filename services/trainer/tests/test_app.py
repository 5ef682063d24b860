"""The trainer as it is put together: API, loops and runner in one process, up to a model version, and their end."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest
from attempts_at_work import flights
from neighbours import Neighbours
from requests_made import BODY
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import server
from kit.app import Service
from kit.testing import KeyFolder, eventually
from trainer import app as composition
from trainer.settings import Settings

PATIENCE = timedelta(seconds=90)
HEAVY = ("sklearn", "skl2onnx", "skops", "onnx", "onnxruntime", "pyarrow", "duckdb", "numpy")


@pytest.fixture
async def whole(settings: Settings, neighbours: Neighbours, engine: AsyncEngine) -> AsyncIterator[str]:
    """All of it, until the test ends. Says the URL."""
    bound = server.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    urls = {"ingest_url": neighbours.url, "registry_url": neighbours.url, "trainer_url": url}
    told = settings.model_copy(update=urls)
    app, stop = composition.create_app(told), asyncio.Event()
    grace = timedelta(seconds=5)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            server.serve(app, host="", port=0, drain=timedelta(0), stop=stop, sockets=[bound], grace=grace)
        )
        group.create_task(composition.loops(told, stop))
        group.create_task(composition.run_until(told, stop))
        yield url
        stop.set()


async def test_a_job_goes_all_the_way(whole: str, neighbours: Neighbours, key_folder: KeyFolder) -> None:
    neighbours.add_version(train=flights(400), held_out=flights(100, 1))
    headers = key_folder.headers("trainer", project="blue")
    async with httpx2.AsyncClient(base_url=whole, headers=headers, trust_env=False, timeout=30) as client:

        async def taken() -> httpx2.Response | None:
            with contextlib.suppress(httpx2.TransportError):
                return await client.post("/v1/jobs", json=BODY, headers={"idempotency-key": "one"})
            return None

        answer = await eventually(taken)
        assert answer is not None
        path = answer.headers["location"]

        async def ended() -> bool:
            job = (await client.get(path, params={"wait": "10s"})).json()
            return job["status"]["phase"] in ("succeeded", "failed")

        await eventually(ended, PATIENCE)
        job = (await client.get(path)).json()
        assert job["status"]["phase"] == "succeeded", job
        assert job["model"]["name"] == "delays"
        pages = [(await client.get(f"{path}/{kind}")).json()["items"] for kind in ("logs", "metrics")]
    assert "fitting" in [line["message"] for line in pages[0]]
    assert {"roc_auc", "baseline_roc_auc"} <= {point["name"] for point in pages[1]}


def test_what_is_at_rest_has_loaded_no_framework() -> None:
    script = f"import sys, trainer.__main__; print([name for name in {HEAVY} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_the_process_knows_its_commands() -> None:
    said = subprocess.run([sys.executable, "-m", "trainer", "--help"], capture_output=True, text=True, check=True)
    assert "{api,reconcile,all,migrate,verify,runner}" in said.stdout


async def test_every_setting_of_the_supervisor_is_one_of_ours(app: Service, settings: Settings) -> None:
    given = {"database_url", "host", "port", "objects_url", "private_key_file", "public_keys_file", "work_dir"}
    assert given | {"ingest_url", "registry_url", "trainer_url"} <= set(Settings.model_fields)
