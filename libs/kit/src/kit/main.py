"""How every service is started: `python -m <service> MODE`, and what it adds to these modes.

api         serves HTTP
reconcile   runs the loops, and serves /livez, /readyz and /metrics beside them
all         both in one process
migrate     brings the database's schema up to date, once
verify      looks for every object that the database names
"""

import argparse
import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import uvloop
from joserfc.errors import JoseError
from pydantic import ValidationError

from kit import databases, tracing
from kit.app import Service, health
from kit.server import Unfinished, serve, stop_on_signals
from kit.settings import Settings
from kit.telemetry import configure_logging
from kit.tokens import load_signer, read_public_keys

log = logging.getLogger(__name__)
S = TypeVar("S", bound=Settings)

Loops = Callable[[S, asyncio.Event], Coroutine[Any, Any, None]]
"""Everything that goes on beside requests, until the event is set; then it finishes what it has begun and returns."""
Command = Callable[[S, Sequence[str]], int]
"""A command of one service's own: its arguments, and the exit code."""

COLLECT = (10_000, 20, 50)
"""When garbage is looked for. Requests leave none that counts does not find, and each look costs as much as many of
them."""

MODES = ("api", "reconcile", "all", "migrate", "verify")
FAILED, UNFINISHED = 1, 3


def run(
    service: str,
    *,
    settings: Callable[[], S],
    create_app: Callable[[S], Service],
    loops: Loops[S],
    commands: Mapping[str, Command[S]] | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """The exit code: 0 when all that was begun was finished, 1 on failure, 3 when requests were cut off."""
    own = dict(commands or {})
    parser = argparse.ArgumentParser(prog=f"python -m {service}", description=__doc__.split("\n", 1)[0])
    parser.add_argument("mode", choices=[*MODES, *own])
    asked, rest = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    configure_logging(service)
    try:
        chosen = settings()
    except ValidationError as exc:
        wrong = {f"{service}_{error['loc'][0]}".upper(): error["msg"] for error in exc.errors()}
        log.error("settings are not right", extra={"settings": wrong})
        return FAILED
    if asked.mode == "migrate":
        return _migrate(service, chosen.url, rest)
    if asked.mode == "verify":
        from kit import verify  # noqa: PLC0415 - as in _migrate

        return verify.run(service, chosen.url, getattr(chosen, "objects_url", None), rest)
    if rest and asked.mode not in own:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    if asked.mode in MODES and (unusable := _unusable(service, chosen)):
        log.error("settings are not right", extra={"settings": unusable})
        return FAILED
    with tracing.exported(f"trainyard-{service}", chosen.otlp_endpoint, ratio=chosen.otlp_ratio):
        if asked.mode in own:
            return own[asked.mode](chosen, rest)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(asked.mode, chosen, create_app, loops))


def _migrate(service: str, url: str, arguments: Sequence[str]) -> int:
    from kit import migrations  # noqa: PLC0415 - with it comes Alembic, a tenth of the time that all else takes to begin

    parser = argparse.ArgumentParser(prog=f"python -m {service} migrate")
    parser.add_argument("--wait", type=float, default=0, help="seconds that the database may take to be there")
    within = parser.parse_args(arguments).wait
    try:
        if within:
            databases.wait(url, within=within)
        migrations.upgrade(service, url)
    except (migrations.Refused, psycopg.OperationalError) as exc:
        log.error("not migrated", extra={"why": str(exc).strip()})
        return FAILED
    return 0


def _unusable(service: str, settings: Settings) -> dict[str, str]:
    """The files of keys that cannot be read, by their settings: better said now than at the first request."""
    reads: dict[str, Callable[[Path], object]] = {"private_key_file": load_signer, "public_keys_file": read_public_keys}
    wrong = {}
    for name, read in reads.items():
        try:
            if not read(getattr(settings, name)):
                raise ValueError("no keys")
        except OSError as exc:
            wrong[f"{service}_{name}".upper()] = f"cannot be read: {exc.strerror}"
        except (ValueError, LookupError, TypeError, AttributeError, JoseError):
            wrong[f"{service}_{name}".upper()] = "is no file of keys (python -m kit keys init)"
    return wrong


async def _run(mode: str, settings: S, create_app: Callable[[S], Service], loops: Loops[S]) -> int:
    stop = stop_on_signals()
    app = health() if mode == "reconcile" else create_app(settings)
    _spare_garbage_collection()
    work = [_serve(app, settings, stop)]
    if mode != "api":
        work.append(loops(settings, stop))
    # Not a task group: what fails asks the rest to end, which finishes what it has begun.
    outcomes = await asyncio.gather(*(_or_stop(part, stop) for part in work), return_exceptions=True)
    code = 0
    for failure in (outcome for outcome in outcomes if outcome is not None):
        code = max(code, UNFINISHED if isinstance(failure, Unfinished) else FAILED)
        log.error("failed", exc_info=failure)
    log.info("ended", extra={"code": code})
    return code


def _spare_garbage_collection() -> None:
    """What is there by now stays, and need not be looked at again: it is megabytes of modules and their tables."""
    gc.set_threshold(*COLLECT)
    gc.collect()
    gc.freeze()


async def _serve(app: Service, settings: Settings, stop: asyncio.Event) -> None:
    await serve(app, host=settings.host, port=settings.port, drain=settings.drain, grace=settings.grace, stop=stop)


async def _or_stop(part: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    try:
        await part
    except BaseException:
        stop.set()
        raise
