"""Questions to a server that may be frozen."""

import asyncio

import pytest

from kit.testing import eventually
from serving.replica.asking import Asking


async def test_a_server_that_is_frozen_holds_up_nobody_and_is_asked_again_once_it_is_back() -> None:
    ask, thawed, heard = Asking(0.05), asyncio.Event(), 0

    async def frozen() -> int:
        nonlocal heard
        heard += 1
        while not thawed.is_set():
            try:
                await thawed.wait()
            except asyncio.CancelledError:  # as a driver does that waits for its server's word
                continue
        return heard

    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
            await ask(frozen)
        with pytest.raises(TimeoutError, match="still busy"):
            await ask(frozen)
        assert heard == 1

        async def answers() -> bool:
            try:
                return await ask(frozen) == 2
            except TimeoutError:
                return False

        thawed.set()
        await eventually(answers)


async def test_what_is_answered_or_goes_wrong_is_heard() -> None:
    ask = Asking(10)

    async def good() -> int:
        return 7

    async def bad() -> int:
        raise OSError("gone")

    assert list(await asyncio.gather(ask(good), ask(good))) == [7, 7]
    with pytest.raises(OSError, match="gone"):
        await ask(bad)
