"""What no client sends who means well is refused in words, in the shape of its route, and costs little."""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hostile import INFER, INVOCATIONS, PREDICT, V1, Hostile, corpus
from processes import Process
from registries import Registry
from servings_at_work import Serving
from worlds import rows, trained

from kit.testing import KeyFolder, eventually
from serving.settings import Settings

SHAPES: dict[str, set[str]] = {
    INFER: {"error"},
    V1: {"error"},
    INVOCATIONS: {"error_code", "message"},
    PREDICT: {"type", "title", "status", "code", "detail"},
}
HERE = str(Path(__file__).parents[3])
"""Of which no answer says anything."""
MOST = 400 << 20
"""Bytes that all of it may take at once, eight requests at a time, beyond what an idle process has."""
SLOW_BODIES, SLOW_BYTES = 40, 4_000_000
"""Bodies that come nearly whole, and what has come of each."""


@pytest.fixture
async def late(serving: Serving, registry: Registry) -> Serving:
    registry.register("late", trained())
    await serving.deploy("late", "late")
    return serving


def wrong(sent: Hostile, answer: httpx2.Response) -> str | None:
    """What is wrong with the refusal."""
    name = f"{sent.path} {sent.name}: {answer.status_code} {answer.text[:300]}"
    if not 400 <= answer.status_code < 500:
        return name
    document: dict[str, Any] = json.loads(answer.content)
    if not SHAPES[sent.path] <= document.keys() or not all(document.values()):
        return name
    leaks = re.search(rf"Traceback|File \"|{re.escape(HERE)}|\.py\b|site-packages|numpy|orjson", answer.text)
    return name if leaks or len(answer.content) > 20_000 else None


async def refused(http: httpx2.AsyncClient, sent: Hostile) -> str | None:
    """Asked again while the process has too much to do, as a client would."""
    answers: list[httpx2.Response] = []

    async def is_answered() -> bool:
        answers.append(await http.post(sent.path, content=sent.body, headers=sent.headers, timeout=60))
        return answers[-1].status_code != 503 or "retry-after" not in answers[-1].headers

    await eventually(is_answered, timedelta(seconds=60))
    return wrong(sent, answers[-1])


async def test_everything_is_refused_in_the_shape_of_its_route(late: Serving) -> None:
    asked = (await late.predict("late", rows(3))).json()
    assert [found for sent in corpus() if (found := await refused(late.http, sent))] == []
    assert (await late.predict("late", rows(3))).json() == asked


async def test_a_process_survives_all_of_it_within_its_memory(
    settings: Callable[..., Settings], key_folder: KeyFolder, registry: Registry, engine: object
) -> None:
    registry.register("late", trained())
    async with Process.started(settings(), key_folder, "all") as process:
        await process.http.put("/v1/deployments/late", json={"model": "late"})
        await process.http.get("/v1/deployments/late", params={"wait": "20s"})
        expected = await _predicted(process)
        before = await asyncio.to_thread(_peak, process)
        slow = asyncio.create_task(_slow(process))
        turns = asyncio.Semaphore(8)

        async def one(sent: Hostile) -> str | None:
            async with turns:
                return await refused(process.http, sent)

        found = await asyncio.gather(*map(one, corpus()))
        await asyncio.gather(*(_gone(process, sent) for sent in corpus()[::5]))
        assert [it for it in found if it] == []
        peak = await asyncio.to_thread(_peak, process)
        assert peak - before < MOST, f"{(peak - before) >> 20} MiB"
        assert await _predicted(process) == expected
        assert b"408" in await slow

        async def is_idle() -> bool:
            text = (await process.http.get("/metrics")).text
            return "trainyard_requests_in_flight 1.0" in text

        await eventually(is_idle)
        assert process.process.returncode is None


async def test_slow_bodies_take_their_bytes_and_no_more(
    settings: Callable[..., Settings], key_folder: KeyFolder, registry: Registry, engine: object
) -> None:
    registry.register("late", trained())
    async with Process.started(settings(), key_folder, "all") as process:
        await process.http.put("/v1/deployments/late", json={"model": "late"})
        await process.http.get("/v1/deployments/late", params={"wait": "20s"})
        expected = await _predicted(process)
        before = await asyncio.to_thread(_peak, process)
        slow = [asyncio.create_task(_slow(process, SLOW_BYTES)) for _ in range(SLOW_BODIES)]
        large = json.dumps({"columns": ["seats"], "rows": [[1]] * 500_000}).encode()  # 3.5 MB of rows that do not fit
        for _ in range(4):
            refusals = await asyncio.gather(*(refused(process.http, Hostile("", PREDICT, large)) for _ in range(4)))
            assert refusals == [None] * 4
        assert await _predicted(process) == expected  # while they still come
        assert all(b"408" in answer for answer in await asyncio.gather(*slow))
        peak = await asyncio.to_thread(_peak, process)
        assert peak - before < SLOW_BODIES * SLOW_BYTES * 2 + MOST // 2, f"{(peak - before) >> 20} MiB"


async def _predicted(process: Process) -> Any:
    answer = await process.http.post(PREDICT, json={"rows": rows(3)}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _peak(process: Process) -> int:
    """Bytes of memory that the process ever had at one time."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{process.process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _head(process: Process, sent: Hostile, length: int) -> bytes:
    said = {**sent.headers, "host": "x", "authorization": process.http.headers["authorization"]}
    lines = [f"POST {sent.path} HTTP/1.1", f"content-length: {length}", *(f"{it}: {said[it]}" for it in said)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _gone(process: Process, sent: Hostile) -> None:
    """Send a part of it, or all, and leave."""
    _, writer = await asyncio.open_connection(process.http.base_url.host, process.http.base_url.port)
    writer.write(_head(process, sent, len(sent.body) + 1 if len(sent.body) % 2 else len(sent.body)) + sent.body)
    writer.close()


async def _slow(process: Process, size: int = 1) -> bytes:
    """What is answered to a body of which so much comes, and then nothing more."""
    reader, writer = await asyncio.open_connection(process.http.base_url.host, process.http.base_url.port)
    writer.write(_head(process, Hostile("slow", PREDICT, b""), size + 1000) + b"{" * size)
    answer = await reader.read()
    writer.close()
    return answer
