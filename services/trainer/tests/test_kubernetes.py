"""A runner has a cluster run its attempts: from a grant to the word of how it ended. Against any cluster."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from clusters_played import Player, a_cluster
from runners_at_work import Boss, ended
from runners_of_clusters import Host, begun, grant_of

from kit import errors
from kit.testing import eventually
from trainer.domain.clusters import name_of
from trainer.kubernetes.home import Home


@pytest.fixture
async def player() -> AsyncIterator[Player]:
    async with a_cluster() as player:
        yield player


@pytest.fixture
def host(player: Player, boss: Boss) -> Host:
    return Host.of(player, boss)


async def test_an_attempt_becomes_a_job_and_nothing_is_left(host: Host, player: Player, boss: Boss) -> None:
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        await eventually(lambda: "The job runs on nowhere." in boss.said)
        await player.end(pod, 0)
        await player.complete(grant)
        end = await ended(boss)
        await player.gone(pod)
        await host.nothing_is_left()
    assert end == {"exit_code": 0, "result": None, "failure": None, "attempt": grant.attempt}
    assert boss.said[0] == f"Attempt 1 was given to the cluster as Job {name_of(grant.attempt)}."
    assert boss.beats > 0


async def test_pods_are_told_the_token_and_nothing_else(host: Host, player: Player, boss: Boss) -> None:
    grant = grant_of()
    async with host.running():
        await begun(player, boss, grant)
        [pod] = await player.pods(grant)
        spec, [container] = pod["spec"], pod["spec"]["containers"]
        assert spec["automountServiceAccountToken"] is False
        [told] = [each["secret"] for each in spec["volumes"] if each["name"] == "told"]
        assert told["items"] == [{"key": "token", "path": "token"}]
        assert "tya_secret" not in str(pod)
        assert {each["name"] for each in container["env"]} >= {"TRAINYARD_ATTEMPT_URL", "TRAINYARD_TOKEN_FILE"}


async def test_several_nodes_find_each_other_and_nobody_else(host: Host, player: Player, boss: Boss) -> None:
    grant = grant_of(spec={"nodes": 2, "nproc": 2})
    async with host.running():
        boss.queue.append(grant)
        await eventually(lambda: player.has_job(grant))
        pods = [await player.start(grant, index) for index in (0, 1)]
        await eventually(lambda: player.cluster.get("NetworkPolicy", name_of(grant.attempt)))
        service = await player.cluster.get("Service", name_of(grant.attempt))
        assert service["spec"]["clusterIP"] == "None"
        [container] = (await player.job(grant))["spec"]["template"]["spec"]["containers"]
        told = {each["name"]: each["value"] for each in container["env"]}
        name = name_of(grant.attempt)
        assert told["PET_RDZV_ENDPOINT"] == f"{name}-0.{name}.{host.site.namespace}.svc:29400"
        assert (told["PET_NNODES"], told["PET_NPROC_PER_NODE"]) == ("2", "2")
        for pod in pods:
            await player.end(pod, 0)
        await player.complete(grant)
        await ended(boss)
        for pod in pods:
            await player.gone(pod)
        await player.collect(grant)
        await host.nothing_is_left()


async def test_a_stop_waits_for_the_pods_last_words(host: Host, player: Player, boss: Boss) -> None:
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        boss.stop = True

        async def told() -> bool:
            return all("deletionTimestamp" in each["metadata"] for each in await player.pods(grant))

        await eventually(lambda: player.leaves(grant))
        await player.collect(grant)
        await eventually(told)
        assert not boss.ends
        await player.gone(pod)
        await player.collect(grant)
        end = await ended(boss)
        await host.nothing_is_left()
    assert end["result"]["outcome"] == "stopped"  # type: ignore[index]


async def test_pods_that_never_go_are_not_waited_for(
    host: Host, player: Player, boss: Boss, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.site = replace(host.site, grace_seconds=-60)  # less than the slack
    grant = grant_of()
    async with host.running():
        await begun(player, boss, grant)
        boss.stop = True
        end = await ended(boss)
    assert end["result"]["outcome"] == "stopped"  # type: ignore[index]


async def test_what_is_lost_is_ended_and_not_reported(host: Host, player: Player, boss: Boss) -> None:
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        boss.raises["beat"] = errors.Conflict("given to another runner")

        async def gone() -> bool:
            return not await player.has_job(grant)

        await eventually(gone)
        await player.gone(pod)
        await host.nothing_is_left()
    assert not boss.ends


async def test_a_runner_that_ends_leaves_its_jobs_and_the_next_one_goes_on(
    host: Host, player: Player, boss: Boss
) -> None:
    grant = grant_of()
    async with host.running():
        pod = await begun(player, boss, grant)
        uid = (await player.job(grant))["metadata"]["uid"]
    assert (await player.job(grant))["metadata"]["uid"] == uid
    async with host.running(holder="another"):
        await eventually(lambda: {grant.attempt} in [holding for _, holding in boss.asked])
        assert (await player.job(grant))["metadata"]["uid"] == uid
        await player.end(pod, 0)
        await player.complete(grant)
        assert (await ended(boss))["exit_code"] == 0
    assert sum("was given to the cluster" in line for line in boss.said) == 1


async def test_of_two_replicas_one_works_and_the_other_follows(host: Host, player: Player, boss: Boss) -> None:
    grant = grant_of()
    boss.nothing = None
    async with host.running(holder="second", kills=True) as second:
        await eventually(lambda: boss.asked)
        async with host.running(holder="third"):
            pod = await begun(player, boss, grant)
            lease = await player.cluster.get("Lease", "trainer")
            assert lease["spec"]["holderIdentity"] == "second"
            second.cancel()
            await eventually(lambda: player.holds("third"))
            await player.end(pod, 0)
            await player.complete(grant)
            await ended(boss)
    assert len(boss.ends) == 1


async def test_a_holder_that_is_gone_is_followed_when_its_lease_has_run_out(
    host: Host, player: Player, boss: Boss
) -> None:
    spec = {"holderIdentity": "gone", "leaseDurationSeconds": 1}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "trainer"}, "spec": spec}
    await player.cluster.create(lease)
    async with host.running():
        await eventually(lambda: player.holds("one"))


async def test_a_runner_whose_lock_was_taken_works_no_more(host: Host, player: Player, boss: Boss) -> None:
    async with host.running():
        await eventually(lambda: boss.asked)
        lease = await player.cluster.get("Lease", "trainer")
        lease["spec"] |= {"holderIdentity": "thief"}
        await player.cluster.apply(
            {key: lease[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "trainer"}}
        )
        await eventually(lambda: player.holds("one"))  # again, once the thief is silent


async def test_the_newer_fence_has_the_attempt(host: Host, player: Player, boss: Boss) -> None:
    grant, home = grant_of(), Home(player.cluster, host.site)
    older, newer = await home.take(grant), await Home(player.cluster, host.site).take(replace(grant, fence=2))
    with pytest.raises(errors.Conflict):
        await home.save(replace(older, lines=3))
    with pytest.raises(errors.Conflict):
        await home.take(grant)
    await home.forget(older)
    [kept] = await home.records()
    assert kept == newer
    await home.forget(newer)
    assert not await home.records()


async def test_what_was_known_under_an_older_fence_is_still_known(host: Host, player: Player) -> None:
    grant, home = grant_of(), Home(player.cluster, host.site)
    await home.save(replace(await home.take(grant), uid="7", lines=4))
    taken = await Home(player.cluster, host.site).take(replace(grant, fence=2, token="tya_new"))
    assert (taken.uid, taken.lines, taken.grant.token) == ("7", 4, "tya_new")


async def test_a_job_whose_record_was_removed_is_ended(host: Host, player: Player, boss: Boss) -> None:
    grant, runner = grant_of(), host.runner()
    async with host.running():
        pod = await begun(player, boss, grant)
    await player.cluster.delete("Secret", name_of(grant.attempt))
    await runner.sweep()
    assert await player.has_job(grant)  # it may just have been made
    await runner.sweep()
    await player.gone(pod)
    await host.nothing_is_left()


async def test_what_the_cluster_does_not_take_is_said(host: Host, player: Player, boss: Boss) -> None:
    host.site = replace(host.site, image="")
    async with host.running():
        boss.queue.append(grant_of())
        end = await ended(boss)
        await host.nothing_is_left()
    failure: Any = end["failure"]
    assert failure["reason"] == "platform-error"
    assert failure["message"].startswith("The cluster does not take the job: The cluster answered 422")


async def test_pods_of_one_index_twice_are_one_job(host: Host, player: Player, boss: Boss) -> None:
    grant = grant_of()
    async with host.running():
        pods = [await begun(player, boss, grant), await player.start(grant)]
        await player.end(pods[1], 0)
        await player.complete(grant)
        assert (await ended(boss))["exit_code"] == 0
        for pod in pods:
            await player.gone(pod)
        await host.nothing_is_left()
    assert len(boss.ends) == 1
