"""The command line against a suite behind a real socket: what it prints, where, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import things
from fake_suite import Answer, FakeSuite, problem
from typer.testing import CliRunner, Result

from trainyard.cli.main import app

Call = Callable[..., Result]
LOG = 'id: 1\ndata: {"message": "fitting"}\n\nevent: end\ndata: {}\n\n'


def answers(suite: FakeSuite) -> None:
    """Something for every GET that the listings need."""
    path = "/v1/datasets/flights/versions"
    profile = {"columns": [{"name": "carrier", "type": "string", "nulls": 0, "distinct": 16}]}
    reject = {"line": 840, "column": "late", "reason": "not_null", "detail": "is missing", "raw": "2013,1,1"}
    for route, value in {
        "/v1/datasets": things.page({"name": "flights", "created_at": things.MADE}),
        "/v1/datasets/flights": {"name": "flights", "settings": {"nulls": ["NA"]}},
        path: things.page(things.version()),
        f"{path}/latest": things.version(),
        f"{path}/1": things.version(),
        f"{path}/latest/profile": profile,
        f"{path}/latest/rejects": things.page(reject),
        f"{path}/latest/rows": things.page({"carrier": "UA", "late": True}, {"carrier": "B6", "late": None}),
        "/v1/jobs": things.page(things.job()),
        "/v1/jobs/j1": things.job(),
        "/v1/jobs/j1/logs": things.page({"message": "fitting [1/2]"}),
        "/v1/jobs/j1/metrics": things.page({"name": "loss", "step": 3, "value": 0.25}),
        "/v1/models": things.page({"name": "flight-delays", "description": "late?"}),
        "/v1/models/flight-delays": {"name": "flight-delays"},
        "/v1/models/flight-delays/aliases": things.page({"alias": "champion", "version": 1}),
        "/v1/models/flight-delays/aliases/champion": {"alias": "champion", "version": 1},
        "/v1/models/flight-delays/versions": things.page(things.model_version()),
        "/v1/models/flight-delays/versions/champion": things.model_version(),
        "/v1/deployments": things.page(things.deployment()),
        "/v1/deployments/flight-delays": things.deployment(),
        "/v1/pipelines": things.page({"name": "p", "steps": {"ingest": {}, "train": {}}}),
        "/v1/pipelines/p": {"name": "p", "steps": {"train": {"kind": "train", "needs": ["ingest"]}, "odd": None}},
        "/v1/runs": things.page(things.run("succeeded")),
        "/v1/runs/r1": things.run("succeeded", things.step("ingest", "reused")),
        "/v1/keys": things.page({"id": "k1", "name": "ci", "role": "viewer", "scopes": ["predict"]}),
        "/v1/projects": things.page({"name": "default"}),
        "/v1/projects/default": {"name": "default"},
        "/v1/projects/default/members": things.page({"subject": "ada", "role": "admin"}),
        "/v1/whoami": {"subject": "ada", "role": "admin", "project": "default"},
    }.items():
        suite.on("GET", route, Answer(200, value))


READS = {
    "dataset list": "flights",
    "dataset get flights": "NA",
    "dataset get flights@1": "327,346",
    "dataset versions flights": "9,430",
    "dataset profile flights": "carrier",
    "dataset rejects flights": "not_null",
    "dataset rows flights --split held_out": "B6",
    "job list": "flight-delays@1",
    "job get j1": "0.7360",
    "job logs j1": "fitting [1/2]",
    "job metrics j1": "0.25",
    "model list": "late?",
    "model get flight-delays": "@champion",
    "model get flight-delays@champion": "not kept: labels differ",
    "model versions flight-delays": "skops",
    "model alias flight-delays champion": "flight-delays@champion",
    "deployment list": "flight-delays@champion",
    "deployment get flight-delays": "ready",
    "pipeline list": "ingest · train",
    "pipeline get p": "train, after ingest",
    "run list": "succeeded",
    "run get r1": "reused",
    "key list": "predict",
    "project list": "default",
    "project get default": "admin",
    "whoami": "ada",
}


@pytest.mark.parametrize("line", READS)
def test_every_reading_command_prints_a_table(suite: FakeSuite, call: Call, line: str) -> None:
    answers(suite)
    done = call(*line.split())
    assert (done.exit_code, READS[line] in done.stdout) == (0, True), done.output


@pytest.mark.parametrize("line", READS)
def test_every_reading_command_prints_json(suite: FakeSuite, call: Call, line: str) -> None:
    answers(suite)
    done = call(*line.split(), "-o", "json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)


LISTS = (
    "dataset list",
    "dataset versions a",
    "dataset rejects a",
    "dataset rows a",
    "job list",
    "model list",
    "model versions a",
    "deployment list",
    "pipeline list",
    "run list",
    "key list",
    "project list",
)


@pytest.mark.parametrize("line", LISTS)
def test_an_empty_list_is_nothing_on_stdout_and_a_word_on_stderr(suite: FakeSuite, call: Call, line: str) -> None:
    for path in (
        *(f"/v1/{noun}" for noun in ("datasets", "jobs", "models", "deployments", "pipelines", "runs", "keys")),
        "/v1/projects",
        "/v1/datasets/a/versions",
        "/v1/datasets/a/versions/latest/rejects",
        "/v1/datasets/a/versions/latest/rows",
        "/v1/models/a/versions",
    ):
        suite.on("GET", path, Answer(200, things.page()))
    done = call(*line.split())
    assert (done.exit_code, done.stdout, done.stderr != "") == (0, "", True)


DELETES = {
    "dataset delete flights": "/v1/datasets/flights",
    "dataset delete flights@1": "/v1/datasets/flights/versions/1",
    "job delete j1": "/v1/jobs/j1",
    "model delete m": "/v1/models/m",
    "model delete m@2": "/v1/models/m/versions/2",
    "model alias m champion --delete": "/v1/models/m/aliases/champion",
    "deployment delete d": "/v1/deployments/d",
    "pipeline delete p": "/v1/pipelines/p",
    "run delete r1": "/v1/runs/r1",
    "key revoke k1": "/v1/keys/k1",
    "project delete a": "/v1/projects/a",
    "project remove a ada": "/v1/projects/a/members/ada",
}


@pytest.mark.parametrize("line", DELETES)
def test_every_deleting_command_deletes(suite: FakeSuite, call: Call, line: str) -> None:
    suite.on("DELETE", DELETES[line], Answer(204))
    done = call(*line.split())
    assert (done.exit_code, len(suite.of("DELETE", DELETES[line])), done.stdout) == (0, 1, ""), done.output


MOVING = {
    "dataset delete flights@latest": ("/v1/datasets/flights/versions", "latest", things.version(3)),
    "model delete m@champion": ("/v1/models/m/versions", "champion", things.model_version(3)),
}


@pytest.mark.parametrize("line", MOVING)
def test_a_name_that_moves_is_deleted_by_its_number(suite: FakeSuite, call: Call, line: str) -> None:
    path, reference, found = MOVING[line]
    suite.on("GET", f"{path}/{reference}", Answer(200, found))
    suite.on("DELETE", f"{path}/3", Answer(204))
    assert call(*line.split()).exit_code == 0
    assert [asked.path for asked in suite.asked if asked.method == "DELETE"] == [f"{path}/3"]


@pytest.mark.parametrize(
    ("status", "code"), [(404, 3), (409, 4), (412, 4), (401, 5), (403, 5), (422, 1), (500, 1), (413, 1)]
)
def test_each_kind_of_refusal_has_its_exit_code(suite: FakeSuite, call: Call, status: int, code: int) -> None:
    suite.on("POST", "/v1/jobs", problem(status, "The reason.", code="why", request_id="req-7"))
    done = call("job", "run", "--dataset", "flights")
    assert (done.exit_code, done.stdout) == (code, "")
    assert "The reason." in done.stderr
    assert "req-7" in done.stderr


def test_mistakes_in_a_payload_are_named_with_their_place(suite: FakeSuite, call: Call) -> None:
    places = [{"pointer": "#/steps/gate/needs/0", "detail": "'trian' is no step; did you mean 'train'?"}]
    suite.on("PUT", "/v1/pipelines/p", problem(422, "The pipeline has mistakes.", errors=places))
    done = call("pipeline", "put", "p", "-", stdin="steps: {}")
    assert "#/steps/gate/needs/0: 'trian' is no step" in done.stderr


def test_a_forbidden_command_says_how_to_find_out_why(suite: FakeSuite, call: Call) -> None:
    suite.on("POST", "/v1/datasets", problem(403, "A viewer may not write."))
    assert "trainyard whoami" in call("dataset", "create", "a").stderr


def test_nobody_there_is_told_with_the_next_step(call: Call) -> None:
    done = call("job", "run", env={"TRAINYARD_URL": "http://127.0.0.1:9"})
    assert done.exit_code == 1
    assert "trainyard up" in done.stderr


def test_no_key_at_all_is_told_with_the_next_step(tmp_path: Path) -> None:
    environment = {"TRAINYARD_HOME": str(tmp_path), "TRAINYARD_URL": "", "TRAINYARD_API_KEY": ""}
    done = CliRunner(env=environment).invoke(app, ["whoami"])
    assert done.exit_code == 5
    assert "trainyard up" in done.stderr


@pytest.mark.parametrize(
    "line",
    ["predict d -d {", "predict d -d @/no/file", "dataset get @3", "nonsense", "dataset rows", "job list -o xml"],
)
def test_a_mistyped_command_ends_with_2(call: Call, line: str) -> None:
    assert call(*line.split()).exit_code == 2


def test_an_upload_makes_a_version_and_shows_it(suite: FakeSuite, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "flights.csv"
    file.write_text("carrier,late\nUA,true\n")
    suite.on("POST", "/v1/uploads", Answer(201, {"upload": things.DIGEST}))
    suite.on("POST", "/v1/datasets/flights/versions", Answer(202, things.version(2, "pending")))
    suite.on("GET", "/v1/datasets/flights/versions/2", Answer(200, things.version(2)))
    done = call("dataset", "upload", "flights", str(file))
    assert (done.exit_code, "flights@2" in done.stdout, "train 254,224" in done.stdout) == (0, True, True), done.output
    pending = call("dataset", "upload", "flights", str(file), "--no-wait", "-o", "json")
    assert json.loads(pending.stdout)["status"]["phase"] == "pending"


def test_the_same_file_again_is_told_to_be_the_version_that_exists(
    suite: FakeSuite, call: Call, tmp_path: Path
) -> None:
    file = tmp_path / "flights.csv"
    file.write_text("carrier,late\nUA,true\n")
    suite.on("POST", "/v1/uploads", Answer(201, {"upload": things.DIGEST}))
    suite.on("POST", "/v1/datasets/flights/versions", Answer(202, {**things.version(2), "reused_from": 2}))
    suite.on("GET", "/v1/datasets/flights/versions/2", Answer(200, things.version(2)))
    done = call("dataset", "upload", "flights", str(file))
    assert (done.exit_code, "had made flights@2 before" in done.stderr) == (0, True), done.output


def test_a_version_that_fails_is_a_failure(suite: FakeSuite, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "flights.csv"
    file.write_text("x")
    suite.on("POST", "/v1/uploads", Answer(201, {"upload": things.DIGEST}))
    suite.on("POST", "/v1/datasets/flights/versions", Answer(202, things.version(2, "pending")))
    suite.on("GET", "/v1/datasets/flights/versions/2", Answer(200, things.version(2, "failed", "There is no header.")))
    done = call("dataset", "upload", "flights", str(file))
    assert done.exit_code == 1
    assert "There is no header." in done.stderr


@pytest.mark.parametrize("at", ["", "@"])
def test_settings_of_a_dataset_come_from_a_file(suite: FakeSuite, call: Call, tmp_path: Path, at: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("nulls: ['NA']\n")
    suite.on("POST", "/v1/datasets", Answer(201, {"name": "a"}))
    assert call("dataset", "create", "a", "--settings", f"{at}{file}").exit_code == 0
    assert suite.asked[0].json == {"name": "a", "settings": {"nulls": ["NA"]}}


@pytest.mark.parametrize("text", ["- a\n", "a: [\n"])
def test_settings_that_are_no_mapping_are_a_usage_error(call: Call, tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    assert call("dataset", "create", "a", "--settings", str(file)).exit_code == 2


def test_a_job_is_made_of_a_file_and_options(suite: FakeSuite, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("task: classification\ntarget: early\n")
    suite.on("POST", "/v1/jobs", Answer(202, things.job("pending")))
    given = ["--file", str(file), "--target", "late", "--dataset", "flights@1", "--model", "m"]
    done = call("job", "run", *given, "--estimator", "sklearn.tree.X", "--parameters", '{"depth": 2}')
    assert "trainyard job logs --follow j1" in done.stderr
    assert suite.asked[0].json == {
        "task": "classification",
        "target": "late",
        "dataset": "flights@1",
        "estimator": {"class": "sklearn.tree.X", "parameters": {"depth": 2}},
        "register": {"model": "m"},
    }


@pytest.mark.parametrize(("phase", "code"), [("succeeded", 0), ("failed", 1)])
def test_a_watched_job_shows_its_log_and_ends_as_it_ended(suite: FakeSuite, call: Call, phase: str, code: int) -> None:
    suite.on("POST", "/v1/jobs", Answer(202, things.job("pending")))
    suite.on("GET", "/v1/jobs/j1/logs", Answer(200, text=LOG))
    suite.on("GET", "/v1/jobs/j1", Answer(200, things.job(phase, "as it went")))
    done = call("job", "run", "--watch")
    assert done.exit_code == code
    assert "fitting" in done.stderr
    assert "as it went" in done.output


@pytest.mark.parametrize(("phase", "code"), [("succeeded", 0), ("failed", 1)])
def test_a_watched_batch_ends_as_it_ended(suite: FakeSuite, call: Call, phase: str, code: int) -> None:
    path = "/v1/deployments/late/batches"
    suite.on("POST", path, Answer(202, things.batch("pending", 0)))
    suite.on("GET", "/v1/deployments/flight-delays/batches/b1", Answer(200, things.batch(phase, 1450, "as it went")))
    done = call("deployment", "batch", "late", "--dataset", "flights@1", "--into", "answers", "--column", "id")
    assert done.exit_code == code
    assert suite.asked[0].json == {"dataset": "flights@1", "output": "answers", "split": None, "columns": ["id"]}
    assert "1,450 of 1,450" in done.output
    assert "as it went" in done.output


def test_a_batch_is_begun_listed_and_cancelled(suite: FakeSuite, call: Call) -> None:
    path = "/v1/deployments/late/batches"
    suite.on("POST", path, Answer(202, things.batch("pending", 0)))
    suite.on("GET", path, Answer(200, things.page(things.batch())))
    suite.on("POST", f"{path}/b1/cancel", Answer(202, things.batch("cancelled")))
    given = ["--dataset", "flights", "--into", "answers", "--no-watch"]
    assert "0 of 1,450" in call("deployment", "batch", "late", *given).stdout
    assert "answers@1" in call("deployment", "batches", "late").stdout
    assert "cancelled" in call("deployment", "cancel-batch", "late", "b1").stdout


def test_a_log_can_be_followed(suite: FakeSuite, call: Call) -> None:
    suite.on("GET", "/v1/jobs/j1/logs", Answer(200, text=LOG))
    suite.on("GET", "/v1/jobs/j1", Answer(200, things.job()))
    assert call("job", "logs", "-f", "j1").stdout == "fitting\n"


def test_cancelling_shows_the_job(suite: FakeSuite, call: Call) -> None:
    suite.on("POST", "/v1/jobs/j1/cancel", Answer(202, things.job("cancelled")))
    assert "cancelled" in call("job", "cancel", "j1").stdout


def test_an_alias_is_moved(suite: FakeSuite, call: Call) -> None:
    suite.on("PUT", "/v1/models/m/aliases/champion", Answer(200, {"alias": "champion", "version": 2}))
    assert call("model", "alias", "m", "champion", "2").exit_code == 0
    assert suite.asked[-1].json == {"version": 2}


def test_a_download_names_its_files(suite: FakeSuite, call: Call, tmp_path: Path) -> None:
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    suite.on("GET", "/v1/models/m/versions/1", Answer(200, things.model_version(content=empty)))
    suite.on("GET", "/v1/models/flight-delays/versions/1/files/model.skops", Answer(200))
    assert "model.skops" in call("model", "download", "m@1", "--into", str(tmp_path / "out")).stdout


def test_a_key_is_shown_once(suite: FakeSuite, call: Call) -> None:
    suite.on("POST", "/v1/keys", Answer(201, {"id": "k1", "key": "ty_new", "role": "viewer", "scopes": ["predict"]}))
    done = call("key", "create", "ci", "--scope", "predict", "--days", "7")
    assert "ty_new" in done.stdout
    assert "not shown again" in done.stderr


def test_a_project_and_its_members_are_made(suite: FakeSuite, call: Call) -> None:
    suite.on("POST", "/v1/projects", Answer(201, {"name": "a"}))
    suite.on("PUT", "/v1/projects/a/members/ada", Answer(201, {"subject": "ada", "role": "editor"}))
    assert call("project", "create", "a").exit_code == 0
    assert "ada is editor of a" in call("project", "grant", "a", "ada", "--role", "editor").stderr
