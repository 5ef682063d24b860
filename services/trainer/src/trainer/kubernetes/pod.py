"""python -m trainer.kubernetes.pod: what runs in each pod of a job.

With the attempt's token it reads from the trainer what there is to do, verifies all of it, starts the program under a
keeper as a runner on a host does, and hands over what came of it: files first, the result last. The pod is the sandbox:
code of the job's author runs as this pod's user, and may know what the pod knows.

Its exit codes are the program's (see `trainer.domain.attempts.Exit`), by which the Job's policy tells what it means.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn, TypeVar

import httpx2

from trainer.domain import archives, programs
from trainer.domain.attempts import (
    EXIT_OF,
    JOB_FILE,
    RESULT_FILE,
    AttemptJob,
    AttemptResult,
    Exit,
    Outcome,
    OutputFile,
    Shard,
    TrainingSpec,
)
from trainer.domain.bundles import BundleInvalid, BundleSpec
from trainer.domain.programs import Told
from trainer.domain.resources import Resources
from trainer.runner.bundles import SPLITS, ask
from trainer.runner.host import write_private
from trainer.runtime import keeper

log = logging.getLogger("trainer.pod")
T = TypeVar("T")
TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
OVER = frozenset({401, 403, 404, 409, 410})
SOONEST, LATEST = 0.2, 10.0
CHUNK = 1 << 20
INPUTS = "inputs"


class Differs(Exception):
    """What was read has another digest than it should."""


class Over(Exception):
    """The trainer does not know the attempt any more, or refuses what it is given."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the pod was told by its manifest."""

    url: str
    token: str
    work: Path
    memory: int
    index: int = 0
    checkpoints: Path | None = None
    launch: Mapping[str, str] = field(default_factory=dict)
    """How torchrun finds the other nodes."""

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Place":
        """From the environment. Every pod speaks under a name of its own, since each counts its lines by itself."""
        index = int(env.get("JOB_COMPLETION_INDEX", "0"))
        token = Path(env["TRAINYARD_TOKEN_FILE"]).read_text().strip()
        claim = env.get("TRAINYARD_CHECKPOINTS")
        return cls(
            url=env["TRAINYARD_ATTEMPT_URL"],
            token=f"{token}.{index}-{secrets.token_hex(3)}",
            work=Path(env["TRAINYARD_WORK"]) / "attempt",
            memory=int(env["TRAINYARD_MEMORY_BYTES"]),
            index=index,
            checkpoints=None if claim is None else Path(claim),
            launch={name: value for name, value in env.items() if name.startswith(("PET_", "TORCH_DISABLE_"))},
        )


class Pod:
    """One pod's life."""

    def __init__(self, place: Place, client: httpx2.Client, *, soonest: float = SOONEST) -> None:
        self._place = place
        self._soonest = soonest
        self._client = client
        self._work = place.work

    def prepare(self) -> None:
        """Make the folder: inputs and code, verified, and what the program is told.

        Raises:
            Over, Differs: it cannot be begun.
        """
        shutil.rmtree(self._work, ignore_errors=True)
        (self._work / INPUTS).mkdir(mode=0o700, parents=True)
        found = self._patiently(lambda: self._get("/work").json())
        shards = []
        for number, each in enumerate(found["shards"]):
            path = f"{INPUTS}/{number:05}.parquet"
            self._fetch(f"/inputs/{each['digest']}", each["digest"], self._work / path)
            shards.append(Shard(path=path, split=each["split"], rows=each["rows"], digest=each["digest"]))
        if found["dataset"] is not None:
            log.info("Read %d rows of %s.", sum(shard.rows for shard in shards), found["dataset"])
        if found["spec"].get("kind") == "bundle":
            self._prepare_bundle(found, shards)
        else:
            job = AttemptJob(
                job=found["job"],
                attempt=self._place.url.rsplit("/", 1)[-1],
                url=self._place.url,
                token=self._place.token,
                spec=TrainingSpec.from_json(found["spec"]),
                shards=tuple(shards),
                memory_bytes=self._place.memory,
            )
            write_private(self._work / JOB_FILE, json.dumps(job.to_json()))

    def _prepare_bundle(self, found: dict[str, Any], shards: list[Shard]) -> None:
        spec = BundleSpec.from_json(found["spec"])
        folder = self._work / programs.BUNDLE
        folder.mkdir(mode=0o755)
        archive = self._work / "bundle.archive"
        self._fetch("/bundle", spec.bundle, archive)
        with archive.open("rb") as file:
            archives.unpack(file, folder)
        archive.unlink()
        checkpoints = self._place.checkpoints or self._work / "checkpoints"
        checkpoints.mkdir(mode=0o700, parents=True, exist_ok=True)
        splits = defaultdict[str, list[str]](list)
        for shard in shards:
            splits[SPLITS.get(shard.split, shard.split)].append(Path(shard.path).name)
        dataset = {
            "reference": found["dataset"],
            "digest": found["dataset_digest"],
            "columns": found["columns"],
            "splits": dict(splits),
        }
        resources = Resources.from_json(found["spec"].get("resources") or {})
        told = Told(
            job=found["job"],
            attempt=found["number"],
            url=self._place.url,
            token=self._place.token,
            spec=spec.to_json(),
            python=ask(sys.executable),
            sandbox=False,
            checkpoints=str(checkpoints),
            memory_bytes=self._place.memory,
            disk_bytes=shutil.disk_usage(self._work).free,
            cpu=resources.cpu_millis / 1000,
            gpus=resources.gpus,
            registers=bool(found["spec"].get("register")) and self._place.index == 0,
            dataset=None if found["dataset"] is None else dataset,
            secrets=found["secrets"],
            launch=dict(self._place.launch),
        )
        write_private(self._work / programs.WARDEN_FILE, json.dumps(told.to_json()))

    def hand_over(self, code: int) -> int:
        """Store what came of it, and say how it ended. Says this pod's exit code.

        What the first pod says counts. That it was told to stop is the runner's to say: another pod may go on then.
        """
        result = self._result()
        if result is None:
            return 128 - code if code < 0 else code if code not in set(Exit) else 1
        if self._place.index == 0 and result.outcome is not Outcome.STOPPED:
            for file in () if result.model is None else result.model.files:
                self._put_file(file)
            self._patiently(lambda: self._put("/result", json=result.to_json()))
        return int(EXIT_OF[result.outcome])

    def fail(self, message: str) -> int:
        """It could not begin."""
        result = AttemptResult(outcome=Outcome.PLATFORM_ERROR, message=message[:2000])
        self._patiently(lambda: self._put("/result", json=result.to_json()))
        return int(Exit.PLATFORM_ERROR)

    def _result(self) -> AttemptResult | None:
        try:
            return AttemptResult.from_json(json.loads((self._work / RESULT_FILE).read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _put_file(self, file: OutputFile) -> None:
        name = Path(file.path).name
        collected = self._work / programs.COLLECTED / name
        path = collected if collected.exists() else self._work / name

        def put() -> None:
            with path.open("rb") as content:
                head = {"content-length": str(file.size), "content-type": "application/octet-stream"}
                self._put(f"/outputs/{file.digest}", content=_chunks(content), headers=head)

        self._patiently(put)

    def _fetch(self, path: str, digest: str, into: Path) -> None:
        def fetch() -> None:
            found = hashlib.sha256()
            with into.open("wb") as file, self._client.stream("GET", f"{self._place.url}{path}") as response:
                _check(response)
                for chunk in response.iter_bytes(CHUNK):
                    found.update(chunk)
                    file.write(chunk)
            if f"sha256:{found.hexdigest()}" != digest:
                raise Differs(f"The bytes of {path.strip('/')} are not those of its digest.")

        self._patiently(fetch)

    def _get(self, path: str) -> httpx2.Response:
        return _check(self._client.get(f"{self._place.url}{path}"))

    def _put(self, path: str, **given: Any) -> httpx2.Response:
        return _check(self._client.put(f"{self._place.url}{path}", **given))

    def _patiently(self, act: Callable[[], T]) -> T:
        """Who is away comes back: a trainer that is being updated ends no training."""
        pause = self._soonest
        while True:
            try:
                return act()
            except httpx2.HTTPError as exc:
                log.info("not just now: %s", exc)
                time.sleep(pause)
                pause = min(2 * pause, LATEST)


def _check(response: httpx2.Response) -> httpx2.Response:
    if response.status_code in OVER or response.status_code in (413, 422):
        response.read()
        raise Over(f"The trainer answered {response.status_code}: {response.text[:500]}")
    return response.raise_for_status()


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def main(env: Mapping[str, str], transport: httpx2.BaseTransport | None = None) -> int:
    """The pod's life. Says its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # Nobody answers a signal for the first process of a container but itself.
    signal.signal(signal.SIGTERM, _stopped)
    place = Place.of(env)
    head = {"Authorization": f"Bearer {place.token}"}
    with httpx2.Client(headers=head, timeout=TIMEOUT, trust_env=False, transport=transport) as client:
        pod = Pod(place, client)
        try:
            try:
                pod.prepare()
            except (Differs, BundleInvalid, OSError) as exc:
                return pod.fail(f"The pod could not begin: {exc}")
            code = keeper.keep(place.work, None)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, keeper.HEARD)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # there is the grace for what is left to do
            return pod.hand_over(code)
        except Over as exc:
            log.warning("%s", exc)
            return int(Exit.STOPPED)


def _stopped(number: int, frame: FrameType | None) -> NoReturn:
    with contextlib.suppress(Exception):
        log.warning("stopped")
    raise SystemExit(int(Exit.STOPPED))


if __name__ == "__main__":
    sys.exit(main(os.environ))
