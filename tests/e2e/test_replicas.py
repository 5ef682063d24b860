"""Two of every reconciler at once."""

import time
from datetime import timedelta

import pytest
from suites_at_work import Suite, until
from worlds import World, rows_of

LEASES = "trainyard_leases_total"
RECONCILING = ["ingest", "trainer", "pipelines"]
PAST_ITS_LEASE = timedelta(seconds=45)


@pytest.mark.slow
def test_two_copies_of_every_reconciler_share_the_work(suite: Suite, world: World) -> None:
    suite.start(TRAINYARD_RECONCILERS="2")
    with suite.client() as client:
        for run in [world.start(client, seed) for seed in range(4)]:
            assert client.runs.wait(run.id).phase == "succeeded"
        made = world.made(client)
        # More at once than one of the two parses at a time.
        many = f"{world.name}-many"
        client.datasets.create(many, {"nulls": ["NA"], "key": ["id"]})
        uploads = [client.uploads.create(rows_of(seed)) for seed in range(100, 116)]
        for version in [client.datasets.add_version(many, upload) for upload in uploads]:
            assert client.datasets.wait(many, version.version).phase == "ready"
    assert (made["dataset versions"], made["model versions"]) == (4, 4)
    for service in RECONCILING:
        leases = [suite.metric(f"{service}-{n}", LEASES) for n in range(2)]
        assert min(leases) >= 0.3 * sum(leases) > 0, (service, leases)


@pytest.mark.slow
@pytest.mark.parametrize("service", RECONCILING)
def test_one_of_two_stands_still_past_its_lease(suite: Suite, world: World, service: str) -> None:
    suite.start(TRAINYARD_RECONCILERS="2")
    both = [f"{service}-{n}" for n in range(2)]
    with suite.client() as client:
        run = world.start(client, seed=1)
        # Whichever came first: of the few things that there are to do, the other may never get one.
        [holder, *_] = until(lambda: [it for it in both if suite.metric(it, LEASES) > 0])
        with suite.frozen(holder):
            began = time.monotonic()
            assert client.runs.wait(run.id).phase == "succeeded"
            until(lambda: time.monotonic() - began > PAST_ITS_LEASE.total_seconds())
        assert client.runs.wait(world.start(client, seed=2).id).phase == "succeeded"
        made = world.made(client)
    assert (made["dataset versions"], made["model versions"]) == (2, 2)
