"""gRPC of a process as it runs: on its own loop, beside models in children, and when it is asked to end."""

import asyncio
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
from grpc_at_work import Caller
from processes import Process, free_port, peak_of
from registries import Registry
from sqlalchemy.ext.asyncio import AsyncEngine
from test_grpc import flat, request
from worlds import rows, trained

from kit.testing import KeyFolder, eventually
from serving.grpc.schema import MESSAGES
from serving.settings import Settings

MIB = 1 << 20


async def test_a_process_answers_and_a_bomb_takes_no_memory(
    settings: Callable[..., Settings], key_folder: KeyFolder, engine: AsyncEngine, registry: Registry
) -> None:
    registry.register("late", trained(twin=False))
    port = free_port()
    async with (
        Process.started(settings(grpc_port=port), key_folder, "all") as process,
        Caller.at(port, key_folder.headers("serving")) as caller,
    ):
        await process.http.put("/v1/deployments/late", json={"model": "late"})
        found = (await process.http.get("/v1/deployments/late", params={"wait": "20s"})).json()
        assert found["status"]["phase"] == "ready", found
        assert len(flat(await caller.ask("ModelInfer", request(rows(3))))["label"]) == 3
        before = peak_of(process.process.pid)
        bomb = MESSAGES["ModelInferRequest"](model_name="late", raw_input_contents=[bytes(500 * MIB)])
        content = bomb.SerializeToString()
        for compression in (None, grpc.Compression.Gzip):
            refused = await caller.refused("ModelInfer", content, compression=compression)
            assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert peak_of(process.process.pid) - before < 50 * MIB


async def test_a_process_that_ends_finishes_its_calls(
    settings: Callable[..., Settings], key_folder: KeyFolder, engine: AsyncEngine, registry: Registry
) -> None:
    registry.register("late", trained())
    port = free_port()
    async with (
        Process.started(settings(grpc_port=port, drain_seconds=1), key_folder, "all") as process,
        Caller.at(port, key_folder.headers("serving")) as caller,
    ):
        await process.http.put("/v1/deployments/late", json={"model": "late"})
        assert (await process.http.get("/v1/deployments/late", params={"wait": "20s"})).is_success
        asked, codes = request(rows(1)), set[Any]()
        answered = 0

        async def ask() -> None:
            nonlocal answered
            while process.process.returncode is None:
                try:
                    await caller.ask("ModelInfer", asked)
                    answered += 1
                except grpc.aio.AioRpcError as exc:
                    codes.add(exc.code())
                    return

        calls = [asyncio.create_task(ask()) for _ in range(4)]
        await eventually(lambda: answered > 10, timedelta(seconds=20))
        process.process.send_signal(signal.SIGTERM)
        assert await process.process.wait() == 0
        await asyncio.gather(*calls)
        # What came in the moment of the end, or later: none of it was begun.
        assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
