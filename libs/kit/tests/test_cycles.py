"""One request and its answer: what goes out together, and what goes on in a task."""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from kit import cycles
from kit.cycles import Cycle

Send = Callable[[Any], Awaitable[None]]


class Wire(asyncio.Transport):
    """What was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def cycle_on(wire: Wire, method: str = "GET", *, keep_alive: bool = True) -> Cycle:
    return Cycle(
        asyncio.get_running_loop(),
        {"method": method},
        wire,
        FlowControl(wire),
        logging.getLogger(__name__),
        lambda: None,
        expects=False,
        keep_alive=keep_alive,
    )


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("method", "messages", "written"),
    [
        ("GET", [start((b"Content-Length", b"2")), body(b"ab")], [OK + b"content-length: 2\r\n\r\nab"]),
        ("HEAD", [start((b"content-length", b"2")), body(b"ab")], [OK + b"content-length: 2\r\n\r\n"]),
        ("GET", [start(), body(b"ab")], [OK + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"]),
        ("GET", [start(), body(b"")], [OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"]),
        (
            "GET",
            [start((b"Transfer-Encoding", b"chunked")), body(b"a", more=True), body(b"b")],
            [OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n"],
        ),
        ("GET", [start(status=204), body(b"")], [b"HTTP/1.1 204 No Content\r\n\r\n"]),
    ],
)
async def test_head_and_first_piece_are_one_write(method: str, messages: list[Any], written: list[bytes]) -> None:
    wire = Wire()
    cycle = cycle_on(wire, method)
    for message in messages:
        await cycle.send(message)
    assert wire.written == written
    assert (cycle.response_complete, wire.closed) == (True, False)
    await asyncio.sleep(0)
    assert wire.written == written


async def test_a_head_waits_no_longer_than_a_turn_of_the_loop() -> None:
    wire = Wire()
    cycle = cycle_on(wire)
    await cycle.send(start((b"content-length", b"1")))
    assert not wire.written
    await asyncio.sleep(0)
    assert wire.written == [OK + b"content-length: 1\r\n\r\n"]
    await cycle.send(body(b"a"))
    assert wire.written[1:] == [b"a"]


async def test_to_a_client_that_has_left_nothing_is_written() -> None:
    wire = Wire()
    cycle = cycle_on(wire)
    await cycle.send(start((b"content-length", b"1")))
    cycle.disconnected = True
    await cycle.send(body(b"a"))
    await asyncio.sleep(0)
    assert not wire.written


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_who_says_close_is_closed(keep_alive: bool) -> None:
    wire = Wire()
    cycle = cycle_on(wire, keep_alive=keep_alive)
    said = [(b"connection", b"keep-alive, Close")] if keep_alive else []
    await cycle.send(start((b"content-length", b"0"), *said))
    await cycle.send(body(b""))
    assert wire.closed
    assert wire.written[0].lower().count(b"connection: ") == 1


@pytest.mark.parametrize(
    "messages",
    [
        [body(b"")],
        [start((b"a b", b"c"))],
        [start((b"a", b"b\r\nc: d"))],
        [start((b"content-length", b"1")), body(b"ab")],
        [start((b"content-length", b"2")), body(b"a")],
    ],
)
async def test_an_application_that_answers_nonsense_fails(messages: list[Any]) -> None:
    *before, last = messages
    cycle = cycle_on(Wire())
    for message in before:
        await cycle.send(message)
    with pytest.raises(RuntimeError):
        await cycle.send(last)


async def test_an_application_waits_for_a_client_that_does_not_read() -> None:
    wire = Wire()
    cycle = cycle_on(wire)
    cycle.flow.pause_writing()
    sending = asyncio.create_task(cycle.send(start()))
    await asyncio.sleep(0)
    assert not cycle.response_started
    cycle.flow.resume_writing()
    await sending
    assert cycle.response_started


async def test_names_of_headers_that_are_remembered_are_few() -> None:
    names = [b"X-%d" % number for number in range(cycles.KEPT_NAMES + 1)]
    for name in names:
        wire = Wire()
        cycle = cycle_on(wire)
        await cycle.send(start((name, b"a")))
        await cycle.send(body(b""))
        assert name.lower() + b": a" in wire.written[0]
    assert len(cycles._names) == cycles.KEPT_NAMES


said: contextvars.ContextVar[str] = contextvars.ContextVar("said", default="nothing")


async def test_what_does_not_wait_has_no_task() -> None:
    seen: list[object] = []

    async def work() -> None:
        said.set("mine")
        seen.append(asyncio.current_task())

    async def outside() -> None:
        cycles.run_now(asyncio.get_running_loop(), work(), seen.append)

    await outside()
    assert len(seen) == 1
    assert said.get() == "nothing"


async def test_what_waits_goes_on_in_a_task_of_the_same_context() -> None:
    event, tasks, seen = asyncio.Event(), [], []  # type: tuple[asyncio.Event, list[asyncio.Task[None]], list[object]]

    async def work() -> None:
        token = said.set("mine")
        await event.wait()
        seen.append(said.get())
        said.reset(token)
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    cycles.run_now(asyncio.get_running_loop(), work(), tasks.append)
    # Python 3.12 makes a task of nothing else; 3.11 took a generator too.
    assert inspect.iscoroutine(tasks[0].get_coro())
    event.set()
    await tasks[0]
    assert seen == ["mine", tasks[0]]


async def test_what_ends_the_task_ends_the_work() -> None:
    tasks: list[asyncio.Task[None]] = []
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")

    cycles.run_now(asyncio.get_running_loop(), work(), tasks.append)
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert ended == ["cancelled"]
