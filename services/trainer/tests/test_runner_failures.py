"""What a runner does when its disk, or the trainer's answers, are not as they should be: every attempt has an end."""

import pytest
from attempts_at_work import Attempt
from neighbours import Neighbours
from runners_at_work import PATIENCE, SLOW, Boss, Host, ended, grant_of, running

from kit import errors
from kit.testing import eventually


def reason_of(end: dict[str, object]) -> tuple[object, object]:
    failure = end["failure"]
    assert isinstance(failure, dict)
    return failure["reason"], end["result"]


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
