"""The main job with every byte in S3, whose server is killed in the middle."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest
from suites_at_work import Suite, until
from worlds import World, patiently

from kit.testing_s3 import Seaweed
from trainyard import Client
from trainyard.results import Run


@pytest.fixture
def seaweed() -> Iterator[Seaweed]:
    """For processes of their own: nothing in this one looks there."""
    folder = Path(tempfile.mkdtemp(prefix="ty-s3-"))
    with Seaweed(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.mark.parametrize("step", ["train", pytest.param("ingest", marks=pytest.mark.slow)])
def test_a_store_that_is_killed_and_comes_back_loses_nothing(
    suite: Suite, world: World, seaweed: Seaweed, step: str
) -> None:
    suite.start(TRAINYARD_OBJECTS_URL=seaweed.url, **seaweed.env)
    with suite.client() as client:
        run = world.start(client, seed=1)
        until(lambda: _begun(client, run, step))
        seaweed.kill()
        until(lambda: any("the object store failed" in suite.words(name) for name in ("ingest", "trainer")))
        seaweed.start()
        done = patiently(lambda: client.runs.wait(run.id))
        assert done.phase == "succeeded", done.raw
        made = world.made(client)
        assert (made["dataset versions"], made["model versions"], made["jobs"]) == (1, 1, 1)
        assert until(lambda: client.predict(world.name, [world.row()]).version == 1)
        _check_link(client.url, dict(client._http.headers), world.name)
        seaweed.kill()
        assert client.predict(world.name, [world.row()]).version == 1
    assert [path for path in suite.home.objects.rglob("*") if path.is_file()] == []


def _begun(client: Client, run: Run, name: str) -> bool:
    return next(it for it in client.runs.get(run.id).steps if it.name == name).status.phase != "waiting"


def _check_link(url: str, headers: dict[str, str], model: str) -> None:
    """A file is had with a key, its signed URL without one, and the next byte of neither."""
    with httpx2.Client(base_url=url, timeout=10, trust_env=False) as http:
        [file, *_] = http.get(f"/v1/models/{model}/versions/1", headers=headers).json()["formats"]
        path = f"/v1/models/{model}/versions/1/files/{file['path']}"
        whole = http.get(path, headers=headers).content
        assert f"sha256:{hashlib.sha256(whole).hexdigest()}" == file["digest"]
        assert http.get(path).status_code == 401
        signed = http.get(f"{path}/url", headers=headers).json()["url"]
        rest = http.get(urljoin(url, signed), headers={"Range": f"bytes={len(whole) - 5}-"})
        assert (rest.status_code, rest.content) == (206, whole[-5:])
        assert http.get(urljoin(url, signed[:-3])).status_code == 401
