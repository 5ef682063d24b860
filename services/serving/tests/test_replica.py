"""What a process that answers does: verified files, takeovers without a failed request, and going on alone."""

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from registries import Registry, digest_of
from servings_at_work import Serving
from sqlalchemy.ext.asyncio import AsyncEngine
from targets import target
from test_api_deployments import problem
from worlds import rows, trained

from kit.testing import KeyFolder, eventually
from serving.domain.revisions import File
from serving.replica.files import ArtifactCorrupt, Files, ModelTooLarge
from serving.settings import Settings
from serving.store.tables import replicas

Make = Callable[..., Settings]
NO_DATABASE = "postgresql+psycopg://nobody:no@127.0.0.1:1/none"
ROW = rows(1)[0]
LONG = timedelta(seconds=60)  # a child has to import scikit-learn, on a machine that does much else


class Source:
    """A registry with one file."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked = 0

    @asynccontextmanager
    async def file(self, project: str, model: str, version: int, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked += 1

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(self.content), 3):
                yield self.content[start : start + 3]

        yield chunks()


CONTENT = b"the bytes of a model"
DESCRIBED = target(file=File("onnx", "model.onnx", digest_of(CONTENT), len(CONTENT)))


@pytest.fixture
def files(tmp_path: Path) -> Callable[[Source], Files]:
    def make(source: Source, largest: int = 100) -> Files:
        it = Files(tmp_path / "work", source, largest=largest)
        it.prepare()
        return it

    return make


async def test_a_file_is_fetched_once_kept_for_its_user_alone_and_verified_at_every_reading(files: Any) -> None:
    source = Source(CONTENT)
    kept = files(source)
    assert [await kept.read("demo", DESCRIBED) for _ in range(2)] == [CONTENT, CONTENT]
    assert source.asked == 1
    path = kept.path(DESCRIBED.file.digest)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.write_bytes(CONTENT[:-1] + b"!")
    assert await kept.read("demo", DESCRIBED) == CONTENT
    assert source.asked == 2
    assert [it.name for it in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_volume_that_is_another_users_is_used_as_it_is(tmp_path: Path) -> None:
    """As a cluster mounts it: all users of the pod may write there, and only its owner may change its mode."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    os.chown(volume, 65532, 65532)
    Files(volume, Source(CONTENT), largest=1).prepare()
    assert volume.stat().st_mode & 0o777 == 0o777
    assert (volume / "models").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!", CONTENT + b"!", b""])
async def test_other_bytes_than_were_registered_are_never_kept(files: Any, content: bytes) -> None:
    kept = files(Source(content))
    with pytest.raises(ArtifactCorrupt):
        await kept.read("demo", DESCRIBED)
    assert list(kept.path(DESCRIBED.file.digest).parent.iterdir()) == []


async def test_a_file_that_is_too_large_is_not_fetched(files: Any) -> None:
    source = Source(CONTENT)
    with pytest.raises(ModelTooLarge):
        await files(source, largest=5).read("demo", DESCRIBED)
    assert source.asked == 0


async def test_files_that_nobody_needs_go_after_a_while_and_what_broke_off_at_the_next_start(files: Any) -> None:
    kept = files(Source(CONTENT))
    await kept.read("demo", DESCRIBED)
    path = kept.path(DESCRIBED.file.digest)
    (path.parent / "x.part").write_bytes(b"half")
    kept.prepare()
    assert [it.name for it in path.parent.iterdir()] == [path.name]
    os.utime(path, (0, 0))
    hour = timedelta(hours=1)
    assert kept.sweep({DESCRIBED.file.digest}, hour) == 0
    assert kept.sweep(set(), hour) == 1
    await kept.read("demo", DESCRIBED)
    assert kept.sweep(set(), hour) == 0


def test_a_replica_is_who_it_was(files: Any) -> None:
    kept = files(Source(CONTENT))
    assert kept.identity() == kept.identity()
    assert kept.remembered() is None
    kept.remember(b"state")
    assert kept.remembered() == b"state"
    path: Path = kept.path("x").parents[1] / "served.json"
    path.write_bytes(b"written by nobody")
    kept.remember(b"state")  # it is kept already: a disk that takes nothing more is not asked
    assert path.read_bytes() == b"written by nobody"


async def test_what_is_served_is_served_again_with_everybody_away_and_the_rest_comes_with_them(
    settings: Make, key_folder: KeyFolder, registry: Registry, engine: AsyncEngine
) -> None:
    registry.move("late", "champion", registry.register("late", trained()))
    registry.register("plain", trained(twin=False))
    async with Serving.started(settings(), key_folder) as first:
        await first.deploy("late", "late@champion")
        await first.deploy("plain", "plain")
        expected = (await first.predict("late", rows(5))).json()
        plain = (await first.predict("plain", rows(5))).json()
        registry.is_away = True
        assert (await first.predict("late", rows(5))).json() == expected
        problem(await first.put("other", "late"), 503, "dependency-unavailable")
    alone = settings(database_url=NO_DATABASE)
    async with Serving.started(alone, key_folder, reconciles=False) as second:
        await eventually(lambda: is_ready(second), LONG)
        assert (await second.predict("late", rows(5))).json() == expected
        assert (await second.predict("plain", rows(5))).json() == plain
        problem(await second.http.get("/v1/deployments/late"), 503, "dependency-unavailable")
        assert (await second.predict("nobody", rows(1))).status_code == 404
    registry.is_away = False
    registry.move("late", "champion", registry.register("late", trained(seed=1)))
    async with Serving.started(settings(), key_folder) as third:
        await eventually(lambda: is_ready(third), LONG)
        await third.answers_with("late", ROW, 2)


async def test_who_has_never_heard_what_to_serve_is_not_ready(
    settings: Make, key_folder: KeyFolder, engine: AsyncEngine
) -> None:
    async with Serving.started(settings(database_url=NO_DATABASE), key_folder, reconciles=False) as it:
        answer = await it.http.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"ready": False, "desired": "unknown"})
        problem(await it.predict("late", rows(1)), 503, "model-not-ready")
        ready = await it.http.get("/v2/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"live": True, "ready": False})
        model = await it.http.get("/v2/models/late/ready")
        assert (model.status_code, model.json()) == (503, {"name": "late", "ready": False})


async def is_ready(serving: Serving) -> bool:
    return (await serving.http.get("/readyz")).is_success


async def test_a_flipped_byte_from_the_registry_is_never_loaded_and_what_was_served_stays(
    serving: Serving, registry: Registry
) -> None:
    registry.register("late", trained())
    await serving.deploy("late", "late@1")
    registry.register("late", trained(seed=1))
    digest = digest_of(trained(seed=1).files["onnx"])
    good = registry.contents[digest]
    registry.contents[digest] = good[:100] + bytes([good[100] ^ 1]) + good[101:]
    etag = (await serving.http.get("/v1/deployments/late")).headers["etag"]
    await serving.put("late", "late@2", **{"if-match": etag})
    found = await serving.settled("late", "failed")
    assert found["status"]["reason"] == "artifact-corrupt"
    assert "late@2" in found["status"]["message"]
    assert await serving.version("late", ROW) == 1
    registry.contents[digest] = good
    await serving.answers_with("late", ROW, 2)
    await eventually(lambda: serving.settled("late"))


async def test_a_flipped_byte_on_this_disk_is_never_loaded(
    settings: Make, key_folder: KeyFolder, registry: Registry, engine: AsyncEngine
) -> None:
    registry.register("late", trained())
    async with Serving.started(settings(), key_folder) as first:
        await first.deploy("late", "late")
    [path] = (settings().work_dir / "models").iterdir()
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    registry.is_away = True
    async with Serving.started(settings(), key_folder, reconciles=False) as second:
        await eventually(lambda: is_ready(second), LONG)
        problem(await second.predict("late", rows(1)), 503, "model-not-ready")
        registry.is_away = False
        await second.answers_with_patience("late", ROW, 1)


@pytest.mark.parametrize(
    "content", [b"no model at all", trained(seed=2).files["onnx"][:-9]], ids=["words", "half a model"]
)
async def test_bytes_that_are_no_model_fail_with_a_reason(serving: Serving, registry: Registry, content: bytes) -> None:
    made = trained(seed=3)
    registry.register("late", type(made)(made.pipeline, made.signature, {"onnx": content}, made.example))
    await serving.put("late", "late")
    assert (await serving.settled("late", "failed"))["status"]["reason"] == "model-invalid"
    problem(await serving.predict("late", rows(1)), 503, "model-not-ready")


async def test_a_registry_that_is_away_when_a_model_is_to_be_fetched_is_waited_for(
    serving: Serving, registry: Registry
) -> None:
    registry.register("late", trained())
    registry.refuses["/files/"] = (503, b"{}")
    await serving.put("late", "late")

    async def says_so() -> bool:
        found = (await serving.http.get("/v1/deployments/late")).json()["status"]
        return (found["phase"], found["reason"]) == ("pending", "registry-unavailable")

    await eventually(says_so)
    registry.refuses.clear()
    await serving.settled("late")


async def test_a_model_that_comes_slowly_keeps_no_other_from_its_next_one(serving: Serving, registry: Registry) -> None:
    registry.register("slow", trained(seed=4))
    registry.register("late", trained())
    registry.slow["/models/slow/versions/1/files"] = threading.Event()
    await serving.put("slow", "slow")
    await serving.deploy("late", "late@1")
    problem(await serving.predict("slow", rows(1)), 503, "model-not-ready")
    await serving.http.delete("/v1/deployments/late")
    registry.slow["/models/slow/versions/1/files"].set()
    await serving.settled("slow")


def runner_child() -> int:
    """The one that this process has."""
    listed = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split()
    [found] = [pid for pid in listed if b"serving.runner" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(found)


async def test_a_model_that_a_new_child_cannot_load_again_is_brought_again(
    settings: Make, key_folder: KeyFolder, registry: Registry, engine: AsyncEngine
) -> None:
    registry.register("late", trained(twin=False))
    async with Serving.started(settings(), key_folder) as it:
        await it.deploy("late", "late")
        expected = (await it.predict("late", rows(3))).json()
        [path] = (settings().work_dir / "models").iterdir()
        path.write_bytes(b"damaged")
        os.kill(runner_child(), signal.SIGKILL)
        await it.answers_with_patience("late", ROW, 1)
        assert (await it.predict("late", rows(3))).json() == expected
        await eventually(lambda: it.settled("late"))


async def test_a_disk_that_takes_nothing_more_keeps_nobody_from_answering(
    settings: Make, key_folder: KeyFolder, registry: Registry, engine: AsyncEngine
) -> None:
    registry.register("late", trained())
    async with Serving.started(settings(), key_folder) as first:
        await first.deploy("late", "late@1")
    work = settings().work_dir
    kept = (work / "served.json").read_bytes()
    (work / "served.json.part").mkdir()  # every attempt to write it fails
    registry.register("late", trained(seed=1))
    async with Serving.started(settings(), key_folder) as second:
        assert await second.version("late", ROW) == 1
        await second.deploy("late", "late@2")
        assert await second.version("late", ROW) == 2
    assert (work / "served.json").read_bytes() == kept
    async with Serving.started(settings(database_url=NO_DATABASE), key_folder, reconciles=False) as third:
        assert await third.version("late", ROW) == 1


async def test_a_state_that_cannot_be_read_is_no_state(
    settings: Make, key_folder: KeyFolder, registry: Registry, engine: AsyncEngine
) -> None:
    registry.register("late", trained())
    async with Serving.started(settings(), key_folder) as first:
        await first.deploy("late", "late")
    (settings().work_dir / "served.json").write_text("{")
    async with Serving.started(settings(), key_folder) as second:
        await second.answers_with_patience("late", ROW, 1)


async def test_two_processes_serve_the_same_and_ready_means_both(
    settings: Make, key_folder: KeyFolder, registry: Registry, serving: Serving, engine: AsyncEngine
) -> None:
    registry.register("late", trained())
    async with Serving.started(settings("two"), key_folder, reconciles=False) as second:

        async def both_live() -> bool:
            async with engine.begin() as connection:
                return (await connection.execute(sa.select(sa.func.count()).select_from(replicas))).scalar_one() == 2

        await eventually(both_live)
        await serving.deploy("late", "late")
        assert [await it.version("late", ROW) for it in (serving, second)] == [1, 1]

    async def one_left() -> bool:
        return not await both_live()

    await eventually(one_left)
