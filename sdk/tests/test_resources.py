"""What the client asks of each service, and what it makes of the answers."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import things
from fake_suite import Answer, FakeSuite, Lost, problem

import trainyard
from trainyard.client import Client
from trainyard.resources.datasets import format_of
from trainyard.resources.models import DownloadCorrupt
from trainyard.results import Run


def test_the_key_goes_with_every_request(suite: FakeSuite, client: Client) -> None:
    suite.on("GET", "/v1/whoami", Answer(200, {"subject": "ada", "role": "admin"}))
    assert client.whoami()["subject"] == "ada"
    assert suite.asked[0].headers["authorization"] == "Bearer ty_key"


def test_a_file_is_streamed_and_becomes_a_version(suite: FakeSuite, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "flights.csv.gz"
    file.write_bytes(b"x" * 3_000_000)
    suite.on("POST", "/v1/uploads", Answer(201, {"upload": things.DIGEST, "size": 3_000_000}))
    suite.on("POST", "/v1/datasets/flights/versions", Answer(202, things.version(3, "pending")))
    sent: list[int] = []
    version = client.datasets.add_version("flights", file, sent=sent.append)
    assert (version.reference, version.phase, sum(sent)) == ("flights@3", "pending", 3_000_000)
    assert suite.asked[0].body == file.read_bytes()
    assert suite.asked[1].json == {"upload": things.DIGEST, "format": "csv", "compression": "gzip"}


def test_bytes_can_be_uploaded_too(suite: FakeSuite, client: Client) -> None:
    suite.on("POST", "/v1/uploads", Answer(201, {"upload": things.DIGEST, "size": 3}))
    suite.on("POST", "/v1/datasets/a/versions", Answer(202, things.version()))
    upload = client.uploads.create(b"a,b")
    client.datasets.add_version("a", upload, format="csv")
    assert suite.asked[1].json["compression"] is None


def test_an_upload_is_deleted_by_itself_or_by_its_name(suite: FakeSuite, client: Client) -> None:
    suite.on("POST", "/v1/uploads", Answer(201, {"upload": things.DIGEST, "size": 3}))
    suite.on("DELETE", f"/v1/uploads/{things.DIGEST}", Answer(204))
    client.uploads.delete(client.uploads.create(b"a,b"))
    client.uploads.delete(things.DIGEST)
    assert len(suite.of("DELETE", f"/v1/uploads/{things.DIGEST}")) == 2


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.csv", ("csv", None)),
        ("a.CSV.GZ", ("csv", "gzip")),
        ("a.jsonl.zst", ("ndjson", "zstd")),
        ("2013.07.parquet", ("parquet", None)),
        ("a.gz", (None, "gzip")),
        ("a", (None, None)),
    ],
)
def test_a_files_name_says_its_format(name: str, found: tuple[str | None, str | None]) -> None:
    assert format_of(Path(name)) == found


def test_a_deletion_sent_again_deletes_no_second_version(suite: FakeSuite, client: Client) -> None:
    for path, made in (("/v1/datasets/flights", things.version), ("/v1/models/flight-delays", things.model_version)):
        suite.on("GET", f"{path}/versions/latest", Answer(200, made(2)), Answer(200, made(1)))
        suite.on("DELETE", f"{path}/versions/2", Lost, problem(404, "There is no version 2."))
    client.datasets.delete_version("flights", "latest")
    client.models.delete_version("flight-delays", "latest")
    assert [asked.path for asked in suite.asked if asked.method == "DELETE"] == [
        *["/v1/datasets/flights/versions/2"] * 2,
        *["/v1/models/flight-delays/versions/2"] * 2,
    ]


def test_a_dataset_from_its_making_to_its_end(suite: FakeSuite, client: Client) -> None:
    path = "/v1/datasets/flights"
    suite.on("POST", "/v1/datasets", Answer(201, {"name": "flights", "settings": {"key": ["id"]}}))
    suite.on("GET", "/v1/datasets", Answer(200, things.page({"name": "flights"})))
    suite.on("GET", path, Answer(200, {"name": "flights", "created_at": things.MADE}))
    suite.on("GET", f"{path}/versions", Answer(200, things.page(things.version())))
    suite.on("GET", f"{path}/versions/latest", Answer(200, things.version()))
    suite.on("GET", f"{path}/versions/latest/profile", Answer(200, {"columns": []}))
    suite.on("GET", f"{path}/versions/latest/rejects", Answer(200, things.page({"line": 7, "raw": "a,b"})))
    suite.on("GET", f"{path}/versions/2/rows", Answer(200, things.page({"carrier": "UA"})))
    suite.on("DELETE", f"{path}/versions/1", Answer(204))
    suite.on("DELETE", path, Answer(204))
    assert client.datasets.create("flights", {"key": ["id"]}).settings == {"key": ["id"]}
    assert [dataset.name for dataset in client.datasets.list()] == ["flights"]
    assert client.datasets.get("flights").created_at == datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert [version.rows for version in client.datasets.versions("flights")] == [327_346]
    assert [column.name for column in client.datasets.version("flights").schema] == ["carrier", "late"]
    assert client.datasets.profile("flights") == {"columns": []}
    assert [(reject.line, reject.text) for reject in client.datasets.rejects("flights")] == [(7, "a,b")]
    assert list(client.datasets.rows("flights", 2, split="held_out")) == [{"carrier": "UA"}]
    assert suite.asked[-1].query == {"split": "held_out"}
    client.datasets.delete_version("flights", 1)
    client.datasets.delete("flights")


def test_a_version_is_waited_for(suite: FakeSuite, client: Client) -> None:
    suite.on("GET", "/v1/datasets/flights/versions/1", Answer(200, things.version(1, "failed", "no header")))
    version = client.datasets.wait("flights", 1, timedelta(seconds=5))
    assert (version.phase, version.status.message) == ("failed", "no header")


def test_a_job_from_its_start_to_its_end(suite: FakeSuite, client: Client) -> None:
    suite.on("POST", "/v1/jobs", Answer(202, things.job("pending")))
    suite.on("GET", "/v1/jobs", Answer(200, things.page(things.job())))
    suite.on("GET", "/v1/jobs/j1", Answer(200, things.job()))
    suite.on("GET", "/v1/jobs/j1/logs", Answer(200, things.page({"message": "fitting", "at": things.MADE})))
    suite.on("GET", "/v1/jobs/j1/metrics", Answer(200, things.page({"name": "loss", "value": 0.5, "step": 1})))
    suite.on("POST", "/v1/jobs/j1/cancel", Answer(202, things.job("cancelled")))
    suite.on("DELETE", "/v1/jobs/j1", Answer(204))
    assert client.jobs.create({"dataset": "flights"}).phase == "pending"
    assert [job.id for job in client.jobs.list()] == ["j1"]
    model = client.jobs.get("j1").model
    assert model is not None
    assert (model.name, model.version) == ("flight-delays", 1)
    assert client.jobs.wait("j1").metrics == {"roc_auc": 0.736, "baseline_roc_auc": 0.669}
    assert [line.message for line in client.jobs.logs("j1")] == ["fitting"]
    assert [(point.name, point.step, point.value) for point in client.jobs.metrics("j1")] == [("loss", 1, 0.5)]
    assert client.jobs.cancel("j1").phase == "cancelled"
    client.jobs.delete("j1")


def test_a_batch_from_its_start_to_its_end(suite: FakeSuite, client: Client) -> None:
    path = "/v1/deployments/late/batches"
    suite.on("POST", path, Answer(202, things.batch("pending", 0)))
    suite.on("GET", path, Answer(200, things.page(things.batch())))
    suite.on("GET", f"{path}/b1", Answer(200, things.batch()))
    suite.on("POST", f"{path}/b1/cancel", Answer(202, things.batch("cancelled")))
    suite.on("DELETE", f"{path}/b1", Answer(204))
    batch = client.deployments.batch("late", "flights@1", "answers", split="train", columns=["id"])
    asked = {"dataset": "flights@1", "output": "answers", "split": "train", "columns": ["id"]}
    assert suite.asked[-1].json == asked
    assert (batch.phase, batch.made) == ("pending", None)
    assert [it.id for it in client.deployments.batches("late")] == ["b1"]
    assert client.deployments.get_batch("late", "b1").progress["rows_done"] == 450
    assert client.deployments.wait_batch("late", "b1").made == "answers@1"
    assert client.deployments.cancel_batch("late", "b1").phase == "cancelled"
    client.deployments.delete_batch("late", "b1")


def test_rows_are_handed_over_and_answered_later(suite: FakeSuite, client: Client) -> None:
    path = "/v1/deployments/late/predictions"
    taken = {"id": "p1", "status": things.status("pending"), "answer": None, "problem": None}
    answer = {"predictions": [{"label": True}], "model": "late", "version": 3, "revision": 1}
    suite.on("POST", path, Answer(202, taken))
    suite.on("GET", f"{path}/p1", Answer(200, taken | {"status": things.status("succeeded"), "answer": answer}))
    later = client.deployments.predict_later("late", [[1]], ["x"])
    assert suite.asked[-1].json == {"rows": [[1]], "columns": ["x"]}
    found = client.deployments.answer("late", later.id).answer
    assert found is not None
    assert (found.version, found.predictions[0]["label"]) == (3, True)


def test_a_model_with_its_versions_and_aliases(suite: FakeSuite, client: Client) -> None:
    path = "/v1/models/flight-delays"
    alias = {"alias": "champion", "version": 1}
    suite.on("POST", "/v1/models", Answer(201, {"name": "flight-delays"}))
    suite.on("GET", "/v1/models", Answer(200, things.page({"name": "flight-delays"})))
    suite.on("GET", path, Answer(200, {"name": "flight-delays", "description": "late?"}))
    suite.on("GET", f"{path}/versions", Answer(200, things.page(things.model_version())))
    suite.on("GET", f"{path}/versions/champion", Answer(200, things.model_version()))
    suite.on("GET", f"{path}/aliases", Answer(200, things.page(alias)))
    suite.on("GET", f"{path}/aliases/champion", Answer(200, alias, {"etag": '"1"'}))
    suite.on("PUT", f"{path}/aliases/champion", Answer(200, {"alias": "champion", "version": 2}))
    for gone in (f"{path}/aliases/champion", f"{path}/versions/1", path):
        suite.on("DELETE", gone, Answer(204))
    assert client.models.create("flight-delays").name == "flight-delays"
    assert [model.name for model in client.models.list()] == ["flight-delays"]
    assert client.models.get("flight-delays").description == "late?"
    assert [version.reference for version in client.models.versions("flight-delays")] == ["flight-delays@1"]
    assert client.models.version("flight-delays", "champion").metrics == {"roc_auc": 0.736}
    assert [found.version for found in client.models.aliases("flight-delays")] == [1]
    assert client.models.alias("flight-delays", "champion").version == 1
    assert client.models.set_alias("flight-delays", "champion", 2).version == 2
    assert suite.asked[-1].headers["if-match"] == '"1"'
    client.models.delete_alias("flight-delays", "champion")
    client.models.delete_version("flight-delays", 1)
    client.models.delete("flight-delays")


def test_a_download_is_checked(suite: FakeSuite, client: Client, tmp_path: Path) -> None:
    digest = "sha256:" + hashlib.sha256(b"skops").hexdigest()
    suite.on("GET", "/v1/models/m/versions/1", Answer(200, things.model_version(content=digest)))
    suite.on("GET", "/v1/models/flight-delays/versions/1/files/model.skops", Answer(200, text=b"skops"))
    (file,) = client.models.download("m", 1, tmp_path / "new")
    assert (file.name, file.read_bytes()) == ("model.skops", b"skops")


def test_a_flipped_byte_in_a_download_leaves_nothing(suite: FakeSuite, client: Client, tmp_path: Path) -> None:
    digest = "sha256:" + hashlib.sha256(b"skops").hexdigest()
    suite.on("GET", "/v1/models/m/versions/1", Answer(200, things.model_version(content=digest)))
    suite.on("GET", "/v1/models/flight-delays/versions/1/files/model.skops", Answer(200, text=b"skopt"))
    with pytest.raises(DownloadCorrupt, match=r"model\.skops"):
        client.models.download("m", 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_deployment_and_its_predictions(suite: FakeSuite, client: Client) -> None:
    path = "/v1/deployments/flight-delays"
    answer = {"predictions": [{"label": True, "score": 0.8}], "model": "flight-delays", "version": 1, "revision": "r1"}
    suite.on("GET", "/v1/deployments", Answer(200, things.page(things.deployment())))
    suite.on("GET", path, Answer(200, things.deployment(), {"etag": '"1"'}))
    suite.on("PUT", path, Answer(200, things.deployment()))
    suite.on("POST", f"{path}/predict", Answer(200, answer))
    suite.on("DELETE", path, Answer(204))
    assert client.deployments.put("flight-delays", "flight-delays@champion").serves == ("flight-delays@1",)
    client.deployments.put("flight-delays", [{"model": "m@1", "weight": 90}, {"model": "m@2", "weight": 10}])
    client.deployments.put("flight-delays", "m", limits={"waiting": 9}, pinned=False)
    assert [asked.json for asked in suite.of("PUT", path)] == [
        {"model": "flight-delays@champion"},
        {"models": [{"model": "m@1", "weight": 90}, {"model": "m@2", "weight": 10}]},
        {"model": "m", "limits": {"waiting": 9}, "pinned": False},
    ]
    assert [found.name for found in client.deployments.list()] == ["flight-delays"]
    assert client.predict("flight-delays", [{"carrier": "UA"}]).predictions == ({"label": True, "score": 0.8},)
    client.predict("flight-delays", [["UA"]], ["carrier"])
    assert suite.asked[-1].json == {"columns": ["carrier"], "rows": [["UA"]]}
    client.deployments.delete("flight-delays")


def test_a_deployment_is_ready_when_what_was_asked_for_last_is(suite: FakeSuite, client: Client) -> None:
    behind, ready = things.deployment(generation=2), things.deployment()
    suite.on("GET", "/v1/deployments/flight-delays", Answer(200, behind), Answer(200, ready))
    assert client.deployments.wait("flight-delays").generation == 1
    assert len(suite.asked) == 2


def test_a_pipeline_and_its_runs(suite: FakeSuite, client: Client) -> None:
    ingest = things.step("ingest", "succeeded", outputs={"version": 1}, started_at=things.MADE)
    run = things.run("succeeded", ingest, things.step("train", "skipped"))
    suite.on("PUT", "/v1/pipelines/p", Answer(201, {"name": "p", "steps": {"ingest": {"kind": "ingest"}}}))
    suite.on("GET", "/v1/pipelines", Answer(200, things.page({"name": "p"})))
    suite.on("POST", "/v1/pipelines/p/runs", Answer(202, things.run("running")))
    suite.on("GET", "/v1/runs", Answer(200, things.page(run)))
    suite.on("GET", "/v1/runs/r1", Answer(200, run))
    for verb in ("cancel", "resume"):
        suite.on("POST", f"/v1/runs/r1/{verb}", Answer(202, run))
    for gone in ("/v1/runs/r1", "/v1/pipelines/p"):
        suite.on("DELETE", gone, Answer(204))
    client.pipelines.put("p", "steps: {}\n")
    assert (suite.asked[-1].headers["content-type"], suite.asked[-1].body) == ("application/yaml", b"steps: {}\n")
    client.pipelines.put("p", {"steps": {}})
    assert suite.asked[-1].headers["content-type"] == "application/json"
    assert [pipeline.name for pipeline in client.pipelines.list()] == ["p"]
    assert client.pipelines.run("p", {"upload": "x"}).phase == "running"
    assert suite.asked[-1].json == {"parameters": {"upload": "x"}}
    assert [found.id for found in client.runs.list("p")] == ["r1"]
    found = client.runs.wait("r1")
    assert (found.outputs_of("ingest"), found.outputs_of("train"), found.outputs_of("none")) == ({"version": 1}, {}, {})
    assert [client.runs.get("r1").phase, client.runs.cancel("r1").phase, client.runs.resume("r1").phase]
    client.runs.delete("r1")
    client.pipelines.delete("p")


def test_a_pipeline_is_found_by_name(suite: FakeSuite, client: Client) -> None:
    suite.on("GET", "/v1/pipelines/p", Answer(200, {"name": "p", "parameters": {"upload": ""}}))
    assert client.pipelines.get("p").parameters == {"upload": ""}


def test_keys_projects_and_members(suite: FakeSuite, client: Client) -> None:
    suite.on("POST", "/v1/keys", Answer(201, {"id": "k1", "key": "ty_secret", "scopes": ["predict"]}))
    suite.on("GET", "/v1/keys", Answer(200, things.page({"id": "k1", "expires_at": None})))
    suite.on("DELETE", "/v1/keys/k1", Answer(204))
    suite.on("POST", "/v1/projects", Answer(201, {"name": "a"}))
    suite.on("GET", "/v1/projects", Answer(200, things.page({"name": "a"})))
    suite.on("GET", "/v1/projects/a", Answer(200, {"name": "a"}))
    suite.on("GET", "/v1/projects/a/members", Answer(200, things.page({"subject": "ada", "role": "admin"})))
    suite.on("PUT", "/v1/projects/a/members/ada", Answer(200, {"subject": "ada", "role": "viewer"}))
    suite.on("DELETE", "/v1/projects/a/members/ada", Answer(204))
    suite.on("DELETE", "/v1/projects/a", Answer(204))
    key = client.keys.create("ci", scopes=["predict"], expires_in_days=7)
    assert suite.asked[-1].json == {"name": "ci", "role": "viewer", "scopes": ["predict"], "expires_in_days": 7}
    assert key.key == "ty_secret"
    assert "ty_secret" not in repr(key)
    assert [found.id for found in client.keys.list()] == ["k1"]
    client.keys.revoke("k1")
    assert client.projects.create("a").name == "a"
    assert [project.name for project in client.projects.list()] == ["a"]
    assert client.projects.get("a").name == "a"
    assert [(member.subject, member.role) for member in client.projects.members("a")] == [("ada", "admin")]
    assert client.projects.put_member("a", "ada", "viewer").role == "viewer"
    client.projects.delete_member("a", "ada")
    client.projects.delete("a")


def test_what_a_later_version_adds_is_kept(suite: FakeSuite, client: Client) -> None:
    suite.on("GET", "/v1/runs/r1", Answer(200, things.run("succeeded") | {"news": 1}))
    run = client.runs.get("r1")
    assert isinstance(run, Run)
    assert run.raw["news"] == 1


def test_the_status_of_the_services(suite: FakeSuite, client: Client) -> None:
    suite.on("GET", "/v1/status", Answer(200, {"services": {"ingest": {"ready": True}}}))
    assert client.status()["services"]["ingest"]["ready"]


def test_the_package_names_what_it_has() -> None:
    assert all(getattr(trainyard, name).__name__ == name for name in trainyard.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        getattr(trainyard, "nothing")  # noqa: B009  # the type checker knows that it is not there
