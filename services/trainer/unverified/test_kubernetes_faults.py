"""A cluster fails in all the ways that clusters fail: at no time are there two Jobs for an attempt, and the end is the
same as if nothing had failed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cluster_at_work import FakeCluster, Fault
from clusters_played import Player, player_of
from runners_at_work import Boss, ended
from runners_of_clusters import Giver, Host, begun, grant_of

from kit import errors
from kit.testing import eventually
from trainer.domain.clusters import name_of
from trainer.domain.grants import Grant
from trainer.kubernetes.cluster import Gone


@pytest.fixture
def fake() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
async def player(fake: FakeCluster) -> AsyncIterator[Player]:
    async with player_of(fake) as player:
        yield player


@pytest.fixture
def boss() -> Boss:
    return Giver()


@pytest.fixture
def host(player: Player, boss: Boss) -> Host:
    return Host.of(player, boss)


def jobs_made(fake: FakeCluster) -> int:
    """However they were made."""
    return sum(each.kind == "jobs" and each.what == "ADDED" for each in fake.history)


def of_jobs(method: str) -> Callable[[str, str, dict[str, str]], bool]:
    return lambda given, path, params: given == method and "/jobs/ty-" in path


async def finishes(host: Host, player: Player, boss: Boss, grant: Grant, pod: str) -> None:
    await player.end(pod, 0)
    await player.complete(grant)
    end = await ended(boss)
    assert (end["exit_code"], end["failure"]) == (0, None)
    await player.gone(pod)
    await host.nothing_is_left()


async def test_an_answer_that_was_lost_makes_no_second_job(
    host: Host, player: Player, boss: Boss, fake: FakeCluster
) -> None:
    fake.faults = [Fault(of_jobs("PATCH"), after=True)]
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        await finishes(host, player, boss, grant, pod)
    assert jobs_made(fake) == 1


async def test_a_runner_killed_between_the_job_and_its_record_adopts_it(
    host: Host, player: Player, boss: Boss, fake: FakeCluster
) -> None:
    grant = grant_of()
    boss.queue.append(grant)
    async with host.running() as task:
        fake.faults = [Fault(of_jobs("PATCH"), after=True, does=task.cancel)]
        await asyncio.wait({task})
    assert jobs_made(fake) == 1
    async with host.running():
        pod = await player.start(grant)
        await eventually(lambda: "The job runs on nowhere." in boss.said)
        await finishes(host, player, boss, grant, pod)
    assert jobs_made(fake) == 1


async def test_a_version_that_is_too_old_is_listed_anew(
    host: Host, player: Player, boss: Boss, fake: FakeCluster
) -> None:
    host.resync = host.look = 60
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        await eventually(lambda: "The job runs on nowhere." in boss.said)
        fake.lose_events(lambda: fake.compact())
        await finishes(host, player, boss, grant, pod)


async def test_a_server_that_is_away_is_waited_for(host: Host, player: Player, boss: Boss, fake: FakeCluster) -> None:
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        of_runner = Fault(lambda method, path, params: params["agent"] == "runner", code=503, times=8)
        away = Fault(lambda method, path, params: params["agent"] == "runner", times=5)
        fake.faults = [away, of_runner]
        await eventually(lambda: of_runner.times == 0 and away.times == 0)
        await finishes(host, player, boss, grant, pod)
    assert jobs_made(fake) == 1


async def test_a_deletion_that_nobody_told_of_is_noticed(
    host: Host, player: Player, boss: Boss, fake: FakeCluster
) -> None:
    host.look = 60
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        fake.lose_events(lambda: fake.remove("jobs", name_of(grant.attempt)))
        end = await ended(boss)
        await player.gone(pod)
        await host.nothing_is_left()
    failure: Any = end["failure"]
    assert failure["message"] == "Somebody deleted the attempt's Kubernetes Job, or its namespace."
    assert jobs_made(fake) == 1


async def test_an_old_list_hides_nothing(host: Host, player: Player, boss: Boss, fake: FakeCluster) -> None:
    before = fake.version
    host.resync = 0.2
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        await eventually(lambda: "The job runs on nowhere." in boss.said)
        seen = len([each for each in fake.requests if each.endswith("/jobs")])
        fake.be_stale(before)
        await eventually(lambda: len([each for each in fake.requests if each.endswith("/jobs")]) > seen + 3)
        assert not boss.ends
        fake.be_stale(None)
        await finishes(host, player, boss, grant, pod)
    assert jobs_made(fake) == 1


async def test_a_runner_that_begins_with_an_old_list_makes_no_second_job(
    host: Host, player: Player, boss: Boss, fake: FakeCluster
) -> None:
    before, grant = fake.version, grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        await eventually(lambda: boss.said)
    fake.be_stale(before)  # no record, no Job
    boss.queue.append(grant_of(attempt=grant.attempt, fence=2))  # so it is given anew
    async with host.running():
        await eventually(lambda: {grant.attempt} in [holding for _, holding in boss.asked])
        fake.be_stale(None)
        await finishes(host, player, boss, grant, pod)
    assert jobs_made(fake) == 1


async def test_a_watch_that_breaks_off_is_taken_up(host: Host, player: Player, boss: Boss, fake: FakeCluster) -> None:
    host.resync = host.look = 60
    broken = Fault(lambda method, path, params: method == "WATCH", times=20)
    fake.faults = [broken]
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        await finishes(host, player, boss, grant, pod)
    assert broken.times < 20


async def test_who_may_not_waits_until_it_may(host: Host, player: Player, boss: Boss, fake: FakeCluster) -> None:
    forbidden = Fault(of_jobs("PATCH"), code=403, times=3)
    fake.faults = [forbidden]
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        await finishes(host, player, boss, grant, pod)
    assert forbidden.times == 0


ENDS = ("before", "after", "kill", "kill after")


@pytest.mark.parametrize("how", ENDS)
async def test_whatever_fails_and_whoever_dies_at_each_request_the_end_is_the_same(
    how: str, player: Player, fake: FakeCluster
) -> None:
    """Each request that a runner makes for an attempt fails once, or is its last one."""
    for at in range(1, 40):
        boss, grant = Giver(), grant_of()
        host = Host.of(player, boss)
        host.resync = 60
        made, seen = jobs_made(fake), [0]

        def nth(method: str, path: str, params: dict[str, str], at: int = at, seen: list[int] = seen) -> bool:
            if params["agent"] != "runner" or "/leases" in path or "watch" in params or method == "WATCH":
                return False
            seen[0] += 1
            return seen[0] == at

        boss.queue.append(grant)
        async with host.running() as first:
            does = first.cancel if how.startswith("kill") else (lambda: None)
            fake.faults = [Fault(nth, after="after" in how, does=does)]
            playing = asyncio.create_task(played(player, boss, grant))
            await asyncio.wait({first, playing}, return_when=asyncio.FIRST_COMPLETED)
            if first.done():
                async with host.running(holder="next"):
                    await playing
                    await host.nothing_is_left()
            else:
                await playing
                await host.nothing_is_left()
        [*_, end] = boss.ends
        assert (end["exit_code"], end["result"], end["failure"]) == (0, None, None)
        assert jobs_made(fake) == made + 1
        if fake.faults[0].times:
            break  # it makes no more requests than that
    else:
        raise AssertionError("it was never undisturbed")


async def played(player: Player, boss: Boss, grant: Grant) -> None:
    """The cluster's own parts, whatever requests of theirs fail too."""
    pod = ""

    async def has_begun() -> bool:
        nonlocal pod
        pod = pod or await player.start(grant)
        return True

    async def has_ended() -> bool:
        await player.end(pod, 0)
        await player.complete(grant)
        return True

    for act in (has_begun, has_ended):
        await eventually(lambda act=act: patiently(act))
    await eventually(lambda: boss.ends)
    await player.gone(pod)


async def patiently(act: Callable[[], Any]) -> bool:
    try:
        return bool(await act())
    except (errors.Error, Gone):
        return False
