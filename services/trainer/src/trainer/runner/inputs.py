"""An attempt's folder before the program starts: the dataset's shards, verified, and `job.json`."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from kit.clients import Principal
from kit.roles import Role
from trainer.clients.ingest import IngestClient, ShardSeen
from trainer.domain.attempts import JOB_FILE, AttemptJob, Shard
from trainer.domain.grants import Grant
from trainer.runner.host import write_private

FOLDER = "inputs"


async def fetch(ingest: IngestClient, grant: Grant, work: Path) -> Sequence[Shard]:
    """Make the folder anew, with the shards in it.

    Raises:
        errors.NotFound: the dataset version is deleted.
        errors.Corrupt: its bytes are not those of its digests.
        errors.Unavailable: ingest does not answer.
    """
    await asyncio.to_thread(_clear, work)
    principal = Principal(grant.project, Role.VIEWER, grant.subject)
    return [
        await _fetch_one(ingest, principal, grant, work, index, shard)
        for index, shard in enumerate(await ingest.shards(principal, grant.pinned))
    ]


def _clear(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    (work / FOLDER).mkdir()


async def _fetch_one(
    ingest: IngestClient, principal: Principal, grant: Grant, work: Path, index: int, shard: ShardSeen
) -> Shard:
    path = f"{FOLDER}/{index:05}.parquet"
    await ingest.fetch(principal, grant.pinned, shard, work / path)
    return Shard(path=path, split=shard.split, rows=shard.rows, digest=shard.digest)


def write_job(grant: Grant, work: Path, trainer_url: str, shards: Sequence[Shard], *, memory: int) -> None:
    """What the program is told."""
    job = AttemptJob(
        job=grant.job,
        attempt=grant.attempt,
        url=f"{trainer_url.rstrip('/')}/internal/v1/attempts/{grant.attempt}",
        token=grant.token,
        spec=grant.training,
        shards=tuple(shards),
        memory_bytes=memory,
    )
    write_private(work / JOB_FILE, json.dumps(job.to_json()))
