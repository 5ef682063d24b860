"""What runs in a pod: it reads and verifies what there is to do, and hands over what came of it."""

import hashlib
import io
import json
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from makers import result_of

from trainer.domain import programs
from trainer.domain.attempts import JOB_FILE, RESULT_FILE, AttemptJob, AttemptResult, Exit, Outcome
from trainer.domain.bundles import BundleInvalid
from trainer.domain.programs import Told
from trainer.kubernetes import pod as pods
from trainer.kubernetes.pod import Differs, Over, Place, Pod

URL = "http://trainer/internal/v1/attempts/7"
SHARD = b"rows"
SPEC = {"task": "classification", "target": "late", "estimator": {"class": "sklearn.tree.DecisionTreeClassifier"}}


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def archive_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


class Trainer:
    """What the trainer gives to pods, and hears of them."""

    def __init__(self) -> None:
        self.work: dict[str, Any] = {
            "job": "j",
            "number": 2,
            "spec": SPEC,
            "dataset": "flights@3",
            "dataset_digest": "sha256:d",
            "shards": [{"digest": digest_of(SHARD), "split": "held_out", "rows": 3, "size": 4}],
            "columns": [{"name": "hour", "type": "int64"}],
            "secrets": {"wandb": "hush"},
        }
        self.bundle = archive_of(train_py=b"print(1)")
        self.shard = SHARD
        self.fails: list[int] = []
        self.outputs: dict[str, bytes] = {}
        self.results: list[AttemptResult] = []
        self.tokens: set[str] = set()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.tokens.add(request.headers["authorization"])
        if self.fails:
            return httpx2.Response(self.fails.pop(), text="not just now")
        path = request.url.path.rpartition("/attempts/7/")[2]
        if path == "work":
            return httpx2.Response(200, json=self.work)
        if path == "bundle":
            return httpx2.Response(200, content=self.bundle)
        if path.startswith("inputs/"):
            return httpx2.Response(200, content=self.shard)
        if path == "result":
            self.results.append(AttemptResult.from_json(json.loads(request.read())))
        else:
            self.outputs[path.removeprefix("outputs/")] = request.read()
        return httpx2.Response(204)


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


Make = Callable[..., Pod]


@pytest.fixture
def make(trainer: Trainer, tmp_path: Path) -> Make:
    def made(**given: Any) -> Pod:
        place = Place(url=URL, token="tya_x.0-a", work=tmp_path / "work", memory=1 << 30, **given)
        transport = httpx2.MockTransport(trainer)
        client = httpx2.Client(transport=transport, headers={"authorization": f"Bearer {place.token}"})
        return Pod(place, client, soonest=0.001)

    return made


def test_an_estimators_folder_is_that_of_a_runner(make: Make, trainer: Trainer, tmp_path: Path) -> None:
    trainer.fails = [503, 502]
    make().prepare()
    job = AttemptJob.from_json(json.loads((tmp_path / "work" / JOB_FILE).read_text()))
    assert (job.url, job.token, job.memory_bytes, job.attempt) == (URL, "tya_x.0-a", 1 << 30, "7")
    [shard] = job.shards
    assert (tmp_path / "work" / shard.path).read_bytes() == SHARD
    assert trainer.tokens == {"Bearer tya_x.0-a"}


def test_a_bundles_folder_is_that_of_a_runner(make: Make, trainer: Trainer, tmp_path: Path) -> None:
    trainer.work["spec"] = {
        "kind": "bundle",
        "bundle": digest_of(trainer.bundle),
        "entrypoint": "train.py",
        "resources": {"cpu": 2, "memory": 1 << 30, "gpu": 1},
        "register": {"model": "m"},
        "nodes": 2,
    }
    launch = {"PET_NNODES": "2"}
    make(checkpoints=tmp_path / "kept", launch=launch).prepare()
    told = Told.from_json(json.loads((tmp_path / "work" / programs.WARDEN_FILE).read_text()))
    assert (told.sandbox, told.registers, told.cpu, told.gpus) == (False, True, 2, 1)
    assert (told.secrets, told.launch, told.checkpoints) == ({"wandb": "hush"}, launch, str(tmp_path / "kept"))
    assert told.dataset is not None
    assert told.dataset["splits"] == {"test": ["00000.parquet"]}
    assert (tmp_path / "work" / programs.BUNDLE / "train.py").read_bytes() == b"print(1)"
    make(index=1).prepare()
    told = Told.from_json(json.loads((tmp_path / "work" / programs.WARDEN_FILE).read_text()))
    assert not told.registers  # the first pod's model is the job's


def test_other_bytes_are_refused(make: Make, trainer: Trainer) -> None:
    trainer.shard = b"other"
    with pytest.raises(Differs, match="inputs/sha256"):
        make().prepare()


def test_an_archive_that_nobody_should_unpack_is_refused(make: Make, trainer: Trainer) -> None:
    trainer.bundle = b"no archive"
    trainer.work["spec"] = {"kind": "bundle", "bundle": digest_of(trainer.bundle), "entrypoint": "train.py"}
    with pytest.raises(BundleInvalid):
        make().prepare()


def test_a_dead_token_ends_it(make: Make, trainer: Trainer) -> None:
    trainer.fails = [401]
    with pytest.raises(Over, match="401"):
        make().prepare()


def leave(tmp_path: Path, result: AttemptResult, **files: bytes) -> None:
    (tmp_path / "work").mkdir(exist_ok=True)
    (tmp_path / "work" / RESULT_FILE).write_text(json.dumps(result.to_json()))
    for name, content in files.items():
        (tmp_path / "work" / name.replace("_", ".")).write_bytes(content)


def test_files_go_first_and_the_result_last(make: Make, trainer: Trainer, tmp_path: Path) -> None:
    result = result_of([("skops", "model.skops", digest_of(b"model"), 5)])
    leave(tmp_path, result, model_skops=b"model")
    trainer.fails = [503]
    assert make().hand_over(0) == 0
    assert trainer.outputs == {digest_of(b"model"): b"model"}
    assert trainer.results == [result]


def test_what_another_pod_says_is_not_the_jobs(make: Make, trainer: Trainer, tmp_path: Path) -> None:
    leave(tmp_path, AttemptResult(outcome=Outcome.USER_ERROR))
    assert make(index=1).hand_over(65) == Exit.USER_ERROR
    leave(tmp_path, AttemptResult(outcome=Outcome.STOPPED))
    assert make().hand_over(75) == Exit.STOPPED
    assert not trainer.results


@pytest.mark.parametrize(("code", "expected"), [(-9, 137), (3, 3), (0, 1), (65, 1), (75, 1)])
def test_without_a_result_no_exit_code_is_ours(make: Make, code: int, expected: int) -> None:
    assert make().hand_over(code) == expected


def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "token").write_text("tya_x\n")
    return {
        "TRAINYARD_ATTEMPT_URL": URL,
        "TRAINYARD_TOKEN_FILE": str(tmp_path / "token"),
        "TRAINYARD_WORK": str(tmp_path),
        "TRAINYARD_MEMORY_BYTES": "1000",
        "JOB_COMPLETION_INDEX": "3",
        "PET_NNODES": "4",
        "HOME": "/tmp",
        "TRAINYARD_CHECKPOINTS": str(tmp_path / "kept"),
    }


def test_a_pod_knows_its_place(tmp_path: Path) -> None:
    place, again = (Place.of(environment(tmp_path)) for _ in range(2))
    assert place.token.startswith("tya_x.3-")
    assert place.token != again.token  # one that comes after it counts anew
    assert (place.index, place.memory, place.launch) == (3, 1000, {"PET_NNODES": "4"})
    assert place.checkpoints == tmp_path / "kept"


def test_what_cannot_begin_says_so(trainer: Trainer, tmp_path: Path) -> None:
    transport, before = httpx2.MockTransport(trainer), signal.getsignal(signal.SIGTERM)
    try:
        trainer.shard = b"other"
        assert pods.main(environment(tmp_path), transport) == Exit.PLATFORM_ERROR
        [result] = trainer.results
        assert result.message.startswith("The pod could not begin: The bytes of inputs/")
        trainer.fails = [404]
        assert pods.main(environment(tmp_path), transport) == Exit.STOPPED
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == Exit.STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
