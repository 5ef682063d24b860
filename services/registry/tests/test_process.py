"""The registry as a process: what a kill leaves behind, and what it puts away."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from model_files import SOUND
from sqlalchemy.ext.asyncio import AsyncEngine

import registry
from kit import tables
from kit.blobs import BlobStore, collect
from kit.testing import KeyFolder, eventually
from registry.app import loops
from registry.settings import Settings
from registry.store.tables import alias_moves, aliases, versions
from registry.testing import FILE, Headers, digest_of, manifest_of
from trainyard import Client
from trainyard.errors import Conflict, NotFound

BLOB = f"/internal/v1/blobs/{digest_of(FILE)}"
REGISTER = "/internal/v1/models/flight-delays/versions"
ALIAS = "/v1/models/flight-delays/aliases/champion"
NOW, LONG = timedelta(0), timedelta(seconds=60)


class Process:
    """A registry of its own, which dies once at each of its failpoints."""

    def __init__(self, settings: Settings, folder: Path, points: list[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder
        told = {
            "REGISTRY_DATABASE_URL": settings.url,
            "REGISTRY_OBJECTS_URL": settings.objects_url,
            "REGISTRY_PRIVATE_KEY_FILE": str(settings.private_key_file),
            "REGISTRY_PUBLIC_KEYS_FILE": str(settings.public_keys_file),
            "REGISTRY_PORT": str(port),
            "TRAINYARD_FAILPOINTS": ",".join(f"{point}=kill" for point in points),
            "TRAINYARD_FAILPOINTS_DIR": str(folder),
        }
        self._env = os.environ | told
        self._child: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._child = await asyncio.to_thread(self._begin)

        async def answers() -> bool:
            try:
                return (await self.ask("GET", "/livez")).status_code == 200
            except httpx2.TransportError:
                return False

        await eventually(answers, LONG)

    async def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=self.url, timeout=30, trust_env=False) as client:
            return await client.request(method, path, **more)

    def _begin(self) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "registry", "all"], env=self._env, stderr=log)

    async def ended(self) -> int:
        assert self._child is not None
        return await asyncio.to_thread(self._child.wait, 30)

    def stop(self, by: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(by)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def fired(self) -> set[str]:
        return {path.stem for path in self._folder.glob("*.fired")}


def named_points() -> list[str]:
    [package] = registry.__path__
    source = "".join(path.read_text() for path in Path(package).rglob("*.py"))
    return re.findall(r'failpoint\("([^"]+)"\)', source)


@pytest.fixture
def process(settings: Settings, tmp_path: Path) -> Iterator[Process]:
    folder = tmp_path / "fired"
    folder.mkdir()
    process = Process(settings, folder, named_points())
    yield process
    process.kill()


async def there(engine: AsyncEngine) -> dict[str, int]:
    """How many of everything there are."""
    counted = {"blobs": tables.blobs, "versions": versions, "aliases": aliases, "moves": alias_moves}
    async with engine.begin() as connection:
        found = {
            name: (await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()
            for name, table in (counted | {"events": tables.events, "links": tables.blob_links}).items()
        }
    return {name: count for name, count in found.items() if count}


async def test_a_kill_at_every_named_point_changes_nothing_but_the_time(
    process: Process, engine: AsyncEngine, headers: Headers
) -> None:
    """Each request is sent until it is answered. A kill before a commit leaves nothing, one after it everything."""
    trainer, user = headers(issuer="trainer"), headers()
    blob = {"blobs": 1}
    version = blob | {"versions": 1, "links": 1, "events": 1}
    alias = version | {"aliases": 1, "moves": 1, "events": 2}
    requests: list[tuple[str, dict[str, Any], dict[str, int], dict[str, int]]] = [
        (BLOB, {"content": FILE, "headers": trainer}, {}, blob),
        (REGISTER, {"json": manifest_of(), "headers": trainer}, blob, version),
        (ALIAS, {"json": {"version": 1}, "headers": user}, version, alias),
    ]
    await process.start()
    for path, request, before, after in requests:
        for expected in (before, after):
            with pytest.raises(httpx2.TransportError):
                await process.ask("PUT", path, **request)
            assert await process.ended() == -signal.SIGKILL
            assert await there(engine) == expected
            await process.start()
        # The alias is there: who sends the same again, unseen, is told so, and sees that it is his.
        assert (await process.ask("PUT", path, **request)).status_code == (428 if path == ALIAS else 200)
        assert await there(engine) == after
    process.stop(signal.SIGTERM)
    assert await process.ended() == 0
    assert process.fired() == {*named_points()}
    assert len(named_points()) == 6


async def test_a_kill_while_a_model_is_pushed_leaves_nothing_that_is_seen(
    process: Process, engine: AsyncEngine, headers: Headers
) -> None:
    """What a user sends meets the same points as what the trainer sends."""
    data = SOUND["onnx"]
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1]}
    file = {"format": "onnx", "path": "m.onnx", "digest": digest_of(data), "size": len(data)}
    body = {"formats": [file], "signature": {"task": "tensors", "inputs": [tensor], "outputs": [tensor]}}
    versions = "/v1/models/digits/versions"
    blob, version = {"blobs": 1}, {"blobs": 1, "versions": 1, "links": 1, "events": 1}
    steps: list[tuple[str, str, dict[str, Any], dict[str, int], dict[str, int]]] = [
        ("PUT", f"/v1/models/digits/blobs/{digest_of(data)}", {"content": data}, {}, blob),
        ("POST", versions, {"json": body}, blob, version),
    ]
    await process.start()
    for method, path, request, before, after in steps:
        for expected in (before, after):
            with pytest.raises(httpx2.TransportError):
                await process.ask(method, path, **request, headers=headers())
            assert await process.ended() == -signal.SIGKILL
            assert await there(engine) == expected
            await process.start()
            seen = await process.ask("GET", versions, headers=headers())
            assert seen.status_code == (200 if expected == version else 404)
        assert (await process.ask(method, path, **request, headers=headers())).status_code == 200
        assert await there(engine) == after


async def test_bytes_whose_process_died_before_their_row_are_seen_by_nobody_and_collected(
    process: Process, engine: AsyncEngine, headers: Headers, store: BlobStore
) -> None:
    await process.start()
    trainer = headers(issuer="trainer")
    with pytest.raises(httpx2.TransportError):
        await process.ask("PUT", BLOB, content=FILE, headers=trainer)
    assert await process.ended() == -signal.SIGKILL
    assert [found.digest async for page in store.blobs() for found in page] == [digest_of(FILE)]
    assert await there(engine) == {}
    await process.start()
    refused = await process.ask("PUT", REGISTER, json=manifest_of(), headers=trainer)
    assert refused.json()["code"] == "file-not-uploaded"
    done = await collect(engine, store, grace=NOW, settle=NOW, stale=NOW)
    assert (done.orphans, done.deleted) == (1, 1)
    assert [found async for page in store.blobs() for found in page] == []


async def test_the_python_client_finds_what_it_expects(
    settings: Settings, engine: AsyncEngine, headers: Headers, tmp_path: Path
) -> None:
    """The SDK at the registry itself, with the gateway's token in place of a key."""
    process = Process(settings, tmp_path, [])
    try:
        await process.start()
        trainer = headers(issuer="trainer")
        await process.ask("PUT", BLOB, content=FILE, headers=trainer)
        for seed in (1, 2):
            await process.ask("PUT", REGISTER, json=manifest_of(parameters={"seed": seed}), headers=trainer)
        token = headers()["authorization"].removeprefix("Bearer ")
        await asyncio.to_thread(_use, process.url, token, tmp_path / "files")
    finally:
        process.kill()


def _use(url: str, token: str, folder: Path) -> None:
    with Client(url, token) as client:
        models = client.models
        assert models.create("empty", "Nothing yet.").description == "Nothing yet."
        assert [model.name for model in models.list()] == ["empty", "flight-delays"]
        assert [version.reference for version in models.versions("flight-delays")] == [
            "flight-delays@2",
            "flight-delays@1",
        ]
        assert [models.set_alias("flight-delays", "champion", version).version for version in (1, 2, 2)] == [1, 2, 2]
        assert [(alias.alias, alias.version) for alias in models.aliases("flight-delays")] == [("champion", 2)]
        found = models.version("flight-delays", "champion")
        assert (found.version, found.parameters, found.metrics) == (2, {"seed": 2}, {"roc_auc": 0.736})
        assert [path.read_bytes() for path in models.download("flight-delays", found.digest, folder)] == [FILE]
        with pytest.raises(Conflict, match="alias champion"):
            models.delete_version("flight-delays", 2)
        models.delete_alias("flight-delays", "champion")
        models.delete_version("flight-delays", 2)
        assert models.version("flight-delays").version == 1
        models.delete("flight-delays")
        with pytest.raises(NotFound):
            models.get("flight-delays")


async def test_the_loops_put_away_what_nobody_needs(engine: AsyncEngine, settings: Settings) -> None:
    """Two at once, as two replicas have them."""
    old = sa.func.now() - timedelta(days=8)
    async with engine.begin() as connection:
        await connection.execute(
            sa.insert(tables.blobs).values(project="demo", digest=digest_of(FILE), size=1, created_at=old)
        )
        values = {"project": "demo", "kind": "k", "subject": "s", "data": {}, "created_at": old}
        await connection.execute(sa.insert(tables.events).values(values))
        key = {"project": "demo", "key": "k", "fingerprint": "f", "status": 200, "headers": {}, "body": b""}
        await connection.execute(sa.insert(tables.idempotency_keys).values(**key, created_at=old))

    async def tidied() -> bool:
        async with engine.begin() as connection:
            states = (await connection.execute(sa.select(tables.blobs.c.state))).scalars().all()
            left = [
                (await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()
                for table in (tables.events, tables.idempotency_keys)
            ]
        return (states, left) == (["dying"], [0, 0])

    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(loops(settings, stop))
        await eventually(tidied)
        stop.set()


def test_a_setting_that_is_missing_is_named(key_folder: KeyFolder) -> None:
    told = {
        "REGISTRY_DATABASE_URL": "postgresql+psycopg://",
        "REGISTRY_PRIVATE_KEY_FILE": str(key_folder.private("registry")),
        "REGISTRY_PUBLIC_KEYS_FILE": str(key_folder.public),
    }
    for more in ({}, {"REGISTRY_OBJECTS_URL": "http://example"}):
        run = subprocess.run(
            [sys.executable, "-m", "registry", "api"], env=os.environ | told | more, capture_output=True, text=True
        )
        assert run.returncode != 0
        assert "REGISTRY_OBJECTS_URL" in run.stderr
