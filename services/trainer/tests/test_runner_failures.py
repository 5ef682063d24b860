"""What a runner does when its disk, or the trainer's answers, are not as they should be: every attempt has an end."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from attempts_at_work import Attempt
from makers import add_job
from neighbours import Neighbours
from requests_made import queue
from runners_at_work import PATIENCE, SLOW, Boss, Host, ended, grant_of, running
from sqlalchemy.ext.asyncio import AsyncEngine

from kit import errors
from kit.app import Service
from kit.clients import ServiceClient
from kit.testing import KeyFolder, client_of, eventually
from kit.tokens import load_signer
from trainer.clients.trainer import TrainerClient
from trainer.domain.jobs import Reason
from trainer.domain.leased import Attempt as Ended
from trainer.domain.leased import AttemptPhase
from trainer.runner.attending import Attending
from trainer.runner.host import Home, Record
from trainer.runner.runner import Runner
from trainer.store.attempts import AttemptStore


def reason_of(end: dict[str, object]) -> tuple[object, object]:
    failure = end["failure"]
    assert isinstance(failure, dict)
    return failure["reason"], end["result"]


async def test_a_host_that_cannot_keep_an_attempt_gives_it_back(
    app: Service, engine: AsyncEngine, key_folder: KeyFolder, tmp_path: Path
) -> None:
    attempt = await queue(engine, await add_job(engine))
    home = Home(tmp_path / "runner")
    (home.folder / "attempts" / str(attempt.id)).write_text("in the way")

    def attend(record: Record) -> Attending:
        raise AssertionError("it was not kept")

    async def found() -> Ended:
        async with engine.begin() as connection:
            return await AttemptStore(connection).get(attempt.project, attempt.id)

    async def over() -> bool:
        return (await found()).phase is AttemptPhase.FAILED

    stop = asyncio.Event()
    async with client_of(app) as http:
        service = ServiceClient(http, load_signer(key_folder.private("trainer")), "trainer")
        runner = asyncio.create_task(Runner(home, TrainerClient(service, home.host), attend, slots=1).run(stop))
        await eventually(over, PATIENCE)
        stop.set()
        await runner
    assert (await found()).why.reason is Reason.PLATFORM_ERROR


@pytest.mark.parametrize(
    "refusal", [errors.Corrupt("damaged"), errors.Forbidden("not you"), errors.UnsupportedMedia("no such bytes")]
)
async def test_an_output_that_is_refused_for_whatever_reason_fails_the_attempt(
    host: Host, boss: Boss, neighbours: Neighbours, refusal: errors.Error
) -> None:
    grant = grant_of(neighbours)
    boss.queue = [grant]
    boss.raises["put_output"] = refusal
    async with running(host):
        end = await ended(boss)
        await eventually(lambda: not host.home.folder_of(grant).exists())
    assert reason_of(end) == ("platform-error", None)
    assert len(boss.ends) == 1


async def test_what_breaks_the_runner_in_the_middle_fails_the_attempt(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours, SLOW)
    boss.queue = [grant]
    async with running(host):
        await eventually(lambda: "fitting" in attempt.lines, PATIENCE)
        boss.raises["beat"] = errors.Forbidden("not you")
        end = await ended(boss)
        await eventually(lambda: not host.home.folder_of(grant).exists())
    assert reason_of(end) == ("platform-error", None)


async def test_a_disk_that_fills_up_while_the_program_works_costs_nothing(
    host: Host, boss: Boss, neighbours: Neighbours, attempt: Attempt
) -> None:
    grant = grant_of(neighbours, SLOW)
    boss.queue = [grant]
    async with running(host):
        await eventually(lambda: "fitting" in attempt.lines, PATIENCE)
        staged = host.home.folder_of(grant) / "record.json.part"
        staged.mkdir()  # so that nothing can be written there
        boss.stop = True
        end = await ended(boss)
    result = end["result"]
    assert isinstance(result, dict)
    assert result["outcome"] == "stopped"


async def test_a_program_that_cannot_be_started_fails_the_attempt(
    host: Host, boss: Boss, neighbours: Neighbours
) -> None:
    grant = grant_of(neighbours)
    boss.queue = [grant]

    def block() -> None:
        host.home.output_of(grant).mkdir(exist_ok=True)

    boss.hears = block
    async with running(host):
        end = await ended(boss)
    assert reason_of(end) == ("platform-error", None)


@pytest.mark.parametrize("nothing", [None, errors.Unavailable("away", retry_after=timedelta(seconds=30))])
async def test_a_runner_that_gets_nothing_pauses_before_it_asks_again(
    host: Host, boss: Boss, nothing: errors.Error | None
) -> None:
    boss.nothing = nothing
    async with running(host):
        await eventually(lambda: len(boss.asked) == 1)
        with pytest.raises(AssertionError, match="not within"):
            await eventually(lambda: len(boss.asked) > (3 if nothing is None else 1), timedelta(seconds=0.7))


async def test_a_runner_waits_as_long_as_it_is_asked_to(host: Host, boss: Boss, neighbours: Neighbours) -> None:
    boss.queue = [grant_of(neighbours)]
    boss.raises["put_output"] = errors.TooMany("later", retry_after=timedelta(seconds=30))
    async with running(host):
        await eventually(lambda: boss.puts == 1, PATIENCE)
        with pytest.raises(AssertionError, match="not within"):
            await eventually(lambda: boss.puts > 1, timedelta(seconds=1))
