"""A backup that is made while the suite works, and a suite that is made from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from suites_at_work import Suite, until
from worlds import World

from trainyard import Client
from trainyard_local import backups
from trainyard_local.home import Home, Refused


@pytest.fixture
def other() -> Iterator[Suite]:
    """A suite with an empty home."""
    with Suite() as suite:
        yield suite


def what_is_known(client: Client, world: World) -> dict[str, object]:
    """What must be the same on both sides: versions by their digests, and what the model says."""
    return {
        "datasets": sorted((it.version, str(it.digest)) for it in client.datasets.versions(world.dataset)),
        "models": sorted((it.version, it.digest) for it in client.models.versions(world.name)),
        "answer": client.predict(world.name, [world.row()]).predictions,
    }


@pytest.mark.slow
def test_a_suite_is_backed_up_while_it_works_and_restored(
    suite: Suite, other: Suite, world: World, tmp_path: Path
) -> None:
    suite.start()
    folder = tmp_path / "backup"
    with suite.client() as client:
        assert client.runs.wait(world.start(client, seed=1).id).phase == "succeeded"
        before = what_is_known(client, world)
        running = [world.start(client, seed) for seed in (2, 3)]
        made = backups.backup(suite.home, folder)
        assert made["objects"] > 0
        for run in running:
            assert client.runs.wait(run.id).phase == "succeeded"

    assert backups.restore(other.home, folder)["objects"] == made["objects"]
    other.start()
    with other.client() as client:
        found = what_is_known(client, world)
        # All that was there when the backup began, and answers alike until a run that was under way goes on.
        for kind in ("datasets", "models"):
            assert set(before[kind]) <= set(found[kind])  # type: ignore[call-overload]
        for run in running:  # those that the dump has were cut off in the middle, and come to their end
            assert client.runs.wait(run.id).phase == "succeeded"
        # What waits for events goes on hearing of them, on a server that counts transactions anew.
        assert client.runs.wait(world.start(client, seed=4).id).phase == "succeeded"
        until(lambda: client.predict(world.name, [world.row()]).predictions)


@pytest.mark.slow
def test_what_a_backup_has_lost_is_told_when_it_is_restored(suite: Suite, world: World, tmp_path: Path) -> None:
    suite.start()
    with suite.client() as client:
        assert client.runs.wait(world.start(client, seed=1).id).phase == "succeeded"
        answer = client.predict(world.name, [world.row()]).predictions
    suite.stop()
    whole = tmp_path / "whole"
    backups.backup(suite.home, whole)  # of a suite that does not run
    objects = sorted((whole / "objects" / "blobs" / "registry").rglob("*"))
    missing, damaged = [path for path in objects if path.is_file()][:2]
    first, last = missing.read_bytes(), damaged.read_bytes()
    missing.unlink()
    damaged.write_bytes(bytes([last[0] ^ 1]) + last[1:])
    with pytest.raises(Refused) as refused:
        backups.restore(Home(tmp_path / "home"), whole)
    assert f"missing: sha256:{missing.name} of project" in str(refused.value)
    assert f"damaged: sha256:{damaged.name} of project" in str(refused.value)

    missing.write_bytes(first)
    damaged.write_bytes(last)
    with Suite() as other:
        backups.restore(other.home, whole)
        other.start()
        with other.client() as client:
            assert client.predict(world.name, [world.row()]).predictions == answer
