"""Who goes next: threads that several queues share, and the loop that all do."""

import asyncio
import contextlib
from datetime import timedelta

import pytest

from kit.testing import eventually
from serving.replica.lanes import Overloaded
from serving.replica.pace import SLICE, Pace
from serving.replica.turns import CREDIT, Line, Turns


async def busy(turns: Turns, line: Line, said: list[str], name: str, seconds: float = 0.0) -> None:
    async with turns.turn(line):
        said.append(name)
        line.until += seconds  # as if it had begun that much later: a turn that took its time
        await asyncio.sleep(0)


async def test_who_asks_seldom_goes_before_all_that_others_ask() -> None:
    turns, flooded, seldom = Turns(1), Line(), Line()
    said: list[str] = []
    async with turns.turn(flooded):
        tasks = [asyncio.create_task(busy(turns, Line(), said, "new")) for _ in range(1)]
        await eventually(lambda: turns.waiting == 1)
        flooded.until = 5.0
        tasks += [asyncio.create_task(busy(turns, flooded, said, "flood")) for _ in range(3)]
        await eventually(lambda: turns.waiting == 4)
        tasks.append(asyncio.create_task(busy(turns, seldom, said, "seldom")))
        await eventually(lambda: turns.waiting == 5)
    await asyncio.gather(*tasks)
    assert said == ["new", "seldom", "flood", "flood", "flood"]
    assert flooded.until >= 5


async def test_as_many_go_at_once_as_there_are_workers_and_one_that_left_costs_none() -> None:
    turns, go_on = Turns(2), asyncio.Event()
    inside: list[int] = []

    async def work(number: int) -> None:
        async with turns.turn(Line()):
            inside.append(number)
            await go_on.wait()

    tasks = [asyncio.create_task(work(number)) for number in range(4)]
    await eventually(lambda: turns.waiting == 2)
    assert inside == [0, 1]
    tasks[2].cancel()
    await asyncio.wait({tasks[2]})
    go_on.set()
    await asyncio.gather(tasks[0], tasks[1], tasks[3])
    assert inside == [0, 1, 3]
    async with turns.turn(Line()), turns.turn(Line()):
        assert turns.waiting == 0


async def test_a_turn_that_was_given_to_one_who_leaves_is_given_on() -> None:
    turns = Turns(1)
    said: list[str] = []
    async with turns.turn(Line()):
        leaves = asyncio.create_task(busy(turns, Line(), said, "leaves"))
        await eventually(lambda: turns.waiting == 1)
        stays = asyncio.create_task(busy(turns, Line(), said, "stays"))
        await eventually(lambda: turns.waiting == 2)
    leaves.cancel()  # after it was told, and before it heard
    with contextlib.suppress(asyncio.CancelledError):
        await leaves
    await stays
    assert said == ["stays"]


async def held(turns: Turns, line: Line, ended: asyncio.Event) -> None:
    async with turns.turn(line):
        await ended.wait()


async def test_who_asks_for_less_than_his_share_has_a_burst_before_a_flood_and_no_more_than_a_little_of_one() -> None:
    turns, flooded, seldom, ended = Turns(1), Line(), Line(), asyncio.Event()
    async with turns.turn(seldom):
        pass
    seldom.until, flooded.until, flooded.is_new = 10.0, 20.0, False
    async with turns.turn(flooded) as goes_on:
        waits = asyncio.create_task(held(turns, seldom, ended))
        await eventually(lambda: turns.waiting == 1)
        assert not goes_on()
    await eventually(lambda: turns.waiting == 0)
    others = asyncio.create_task(held(turns, flooded, ended))
    await eventually(lambda: turns.waiting == 1)
    ended.set()
    await asyncio.gather(waits, others)
    async with turns.turn(seldom) as goes_on:
        flood = asyncio.create_task(held(turns, flooded, ended))
        await eventually(lambda: turns.waiting == 1)
        begun = asyncio.get_running_loop().time()
        went = 0
        while goes_on():
            went += 1
            spin(CREDIT / 10)
        assert 2 < went < 13
        assert asyncio.get_running_loop().time() - begun < 2 * CREDIT
    await flood


async def test_a_new_one_has_no_credit_and_one_alone_just_goes_on() -> None:
    turns, old, new, ended = Turns(1), Line(), Line(), asyncio.Event()
    async with turns.turn(old) as goes_on:
        spin(CREDIT / 10)
        assert goes_on()
        assert goes_on()
        waits = asyncio.create_task(held(turns, new, ended))
        await eventually(lambda: turns.waiting == 1)
        left = asyncio.create_task(held(turns, Line(), ended))
        await eventually(lambda: turns.waiting == 2)
        waits.cancel()
        left.cancel()
        await asyncio.wait({waits, left})
        assert goes_on()  # who has left waits no more
    assert new.is_new


def spin(seconds: float) -> None:
    """Work that gives nobody else a turn."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        pass


async def test_a_crowd_on_the_loop_lets_others_have_it_in_between() -> None:
    pace = Pace(patience=60)
    order: list[str] = []

    async def ask() -> None:
        await pace.turn()
        spin(SLICE / 2)
        order.append("ask")

    async def other() -> None:
        for _ in range(3):
            order.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(*(ask() for _ in range(12)), other())
    assert order.count("ask") == 12
    assert order.index("other") < 12
    # In one breath they would all come before the second word of the other.
    assert max(place for place, who in enumerate(order) if who == "other") < len(order) - 1
    assert pace.waiting == 0
    assert pace.each > 0


async def test_more_than_the_loop_can_answer_in_time_are_refused_at_once_and_who_left_costs_no_turn() -> None:
    pace = Pace(patience=2 * SLICE)
    refused = 0
    answered = 0

    async def ask() -> None:
        nonlocal refused, answered
        try:
            await pace.turn()
        except Overloaded:
            refused += 1
        else:
            spin(SLICE / 2)
            answered += 1

    await asyncio.gather(*(ask() for _ in range(3)))
    assert (answered, refused) == (3, 0)
    answered = 0
    tasks = [asyncio.create_task(ask()) for _ in range(40)]
    await asyncio.sleep(0)
    left = [task for task in tasks if not task.done()][1:3]
    for task in left:
        task.cancel()
    await asyncio.wait(tasks)
    assert answered + refused == 40 - len(left)
    assert refused > 20
    assert pace.waiting == 0
    pace.each = 7.0
    waits = [asyncio.create_task(ask()) for _ in range(3)]
    spin(0)
    pace._queue.append(asyncio.get_running_loop().create_future())
    with pytest.raises(Overloaded) as raised:
        pace.require_room()
    assert raised.value.retry_after == timedelta(seconds=7)
    for task in waits:
        task.cancel()
    await asyncio.wait(waits)
