"""Secrets: sealed at rest, told to one attempt, and kept out of what is written down."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from makers import add_job, attempt_of
from requests_made import grant
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.app import Service
from kit.callers import Role
from kit.testing import KeyFolder, client_of
from trainer import secrecy
from trainer.app import create_app
from trainer.domain.bundles import BundleSpec
from trainer.domain.redaction import HIDDEN, NOTHING_HIDDEN, Redactor
from trainer.domain.secrets import KeyFileInvalid, SecretsUnavailable, Vault
from trainer.secrecy import Secrecy
from trainer.settings import Settings
from trainer.store import tables
from trainer.store.attempts import AttemptStore, Granted

OLD, NEW = "0" * 64, "a" * 64
VALUE = 'pa"ss\nwörd/of the_database'


def test_a_sealed_value_opens_in_its_own_place_alone() -> None:
    vault = Vault.read(OLD)
    sealed = vault.seal("blue", "token", VALUE)
    assert VALUE.encode() not in sealed
    assert vault.open("blue", "token", sealed) == VALUE
    assert vault.seal("blue", "token", VALUE) != sealed
    for place in (("red", "token"), ("blue", "other")):
        with pytest.raises(SecretsUnavailable, match="damaged"):
            vault.open(*place, sealed)
    with pytest.raises(SecretsUnavailable, match="damaged"):
        vault.open("blue", "token", sealed[:-1] + bytes([sealed[-1] ^ 1]))
    for form in (b"", b"\x02" + sealed[1:]):
        with pytest.raises(SecretsUnavailable, match="not here"):
            vault.open("blue", "token", form)


def test_the_last_key_seals_and_each_opens_what_it_has_sealed() -> None:
    sealed = Vault.read(OLD).seal("blue", "token", VALUE)
    both = Vault.read(f"{OLD}\n{NEW}\n")
    assert both.open("blue", "token", sealed) == VALUE
    again = both.seal("blue", "token", VALUE)
    assert Vault.read(NEW).open("blue", "token", again) == VALUE
    with pytest.raises(SecretsUnavailable, match="a key that is not here"):
        Vault.read(OLD).open("blue", "token", again)


@pytest.mark.parametrize("text", ["", "\n", "a" * 63, "ab", "z" * 64, f"{OLD} abcd"])
def test_what_is_no_key_file_is_not_shown(text: str) -> None:
    with pytest.raises(KeyFileInvalid) as caught:
        Vault.read(text)
    assert not text.strip() or text.strip() not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        VALUE,
        repr(VALUE),
        json.dumps(VALUE),
        json.dumps(VALUE, ensure_ascii=False),
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode().rstrip("="),
        VALUE.encode().hex(),
        "pa%22ss%0Aw%C3%B6rd%2Fof%20the_database",
        "wörd/of the_database",
    ],
)
def test_a_secret_is_kept_out_of_text_however_it_is_written(said: str) -> None:
    hidden = Redactor([VALUE, "another one"]).redact(f"it is {said}, no?")
    assert HIDDEN in hidden
    assert "database" not in hidden
    assert said.strip("'\"") not in hidden
    assert hidden.endswith(", no?")


def test_what_is_no_secret_is_left_alone() -> None:
    redactor = Redactor(["  short \n\n long enough to be one"])
    assert redactor.redact("short of time, he fell") == "short of time, he fell"
    assert redactor.redact("long enough to be one") == HIDDEN
    assert Redactor(["password", "password of all"]).redact("password of all") == HIDDEN


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "secrets.key"
    file.write_text(OLD)
    return settings.model_copy(update={"secrets_key_file": file})


@pytest.fixture
async def runner(app: Service, key_folder: KeyFolder) -> AsyncIterator[httpx2.AsyncClient]:
    headers = key_folder.headers("trainer", issuer="trainer", role=Role.VIEWER, project="blue")
    async with client_of(app, headers) as client:
        yield client


async def test_a_secret_is_set_and_listed_and_never_shown(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    answer = await client.put("/v1/secrets/s3.token", json={"value": VALUE})
    assert answer.status_code == 201, answer.text
    secret = answer.json()
    assert secret.keys() == {"name", "version", "subject", "created_at", "updated_at"}
    assert (secret["name"], secret["version"]) == ("s3.token", 1)
    again = await client.put("/v1/secrets/s3.token", json={"value": "something else"})
    assert (again.status_code, again.json()["version"]) == (200, 2)
    assert (await client.get("/v1/secrets/s3.token")).json() == again.json()
    await client.put("/v1/secrets/b", json={"value": VALUE})
    page = (await client.get("/v1/secrets?page_size=1")).json()
    assert [each["name"] for each in page["items"]] == ["b"]
    rest = (await client.get(f"/v1/secrets?page_token={page['next_page_token']}")).json()
    assert [each["name"] for each in rest["items"]] == ["s3.token"]
    async with engine.begin() as connection:
        kept = repr((await connection.execute(sa.select(tables.secrets))).all())
        audited = repr((await connection.execute(sa.select(tables.metadata.tables["audit"].c.detail))).all())
    for text in (kept, audited):
        assert "something else" not in text
        assert VALUE not in text
    assert (await client.delete("/v1/secrets/b")).status_code == 204
    assert (await client.get("/v1/secrets/b")).json()["code"] == "secret-not-found"
    assert (await client.delete("/v1/secrets/b")).status_code == 404


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("UPPER", {"value": VALUE}),
        ("ok", {"value": "1234567"}),
        ("ok", {"value": " 1234567 "}),
        ("ok", {"value": 12345678}),
        ("ok", {"value": "x" * 65537}),
        ("ok", {}),
    ],
)
async def test_what_is_no_secret_is_refused_and_not_repeated(
    client: httpx2.AsyncClient, name: str, body: dict[str, Any]
) -> None:
    answer = await client.put(f"/v1/secrets/{name}", json=body)
    assert answer.status_code == 422
    assert "value" not in body or str(body["value"])[:8] not in answer.text


async def test_projects_do_not_see_each_other_s_and_viewers_change_nothing(
    app: Service, client: httpx2.AsyncClient, key_folder: KeyFolder
) -> None:
    await client.put("/v1/secrets/token", json={"value": VALUE})
    async with client_of(app, key_folder.headers("trainer", project="red")) as stranger:
        assert (await stranger.get("/v1/secrets/token")).status_code == 404
        assert (await stranger.get("/v1/secrets")).json()["items"] == []
    async with client_of(app, key_folder.headers("trainer", project="blue", role=Role.VIEWER)) as viewer:
        assert (await viewer.get("/v1/secrets/token")).status_code == 200
        assert (await viewer.put("/v1/secrets/token", json={"value": VALUE})).status_code == 403
        assert (await viewer.delete("/v1/secrets/token")).status_code == 403


async def test_without_a_key_no_secret_is_taken(settings: Settings, engine: AsyncEngine, key_folder: KeyFolder) -> None:
    bare = create_app(settings.model_copy(update={"secrets_key_file": None}))
    async with client_of(bare, key_folder.headers("trainer", project="blue")) as client:
        answer = await client.put("/v1/secrets/token", json={"value": VALUE})
    assert (answer.status_code, answer.json()["code"]) == (503, "secrets-unavailable")
    assert "TRAINER_SECRETS_KEY_FILE" in answer.json()["detail"]


BUNDLE = BundleSpec(bundle="sha256:" + "b" * 64, entrypoint="train.py", secrets=("token",))


async def secretive(client: httpx2.AsyncClient, engine: AsyncEngine) -> Granted:
    """A running attempt at a job that names a secret."""
    await client.put("/v1/secrets/token", json={"value": VALUE})
    job = await add_job(engine, dataset=None, training=None, bundle=BUNDLE)
    return await grant(engine, job)


async def test_a_job_names_secrets_that_there_are(client: httpx2.AsyncClient, engine: AsyncEngine) -> None:
    body = {"kind": "bundle", "bundle": BUNDLE.bundle, "entrypoint": "train.py", "secrets": ["token"]}
    refused = await client.post("/v1/jobs", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "secret-missing")
    assert refused.json()["errors"] == [{"pointer": "#/secrets/0", "detail": "there is no secret 'token'"}]
    await client.put("/v1/secrets/token", json={"value": VALUE})
    assert (await client.post("/v1/jobs", json=body)).json()["code"] == "bundle-not-found"


async def test_the_runner_of_a_live_attempt_is_told_and_nobody_else(
    client: httpx2.AsyncClient, runner: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    granted = await secretive(client, engine)
    path = f"/internal/v1/leases/{granted.attempt.id}/secrets"
    told = await runner.post(path, json={"fence": granted.attempt.fence})
    assert told.json() == {"secrets": {"token": VALUE}}
    assert (await runner.post(path, json={"fence": granted.attempt.fence + 1})).json()["code"] == "stale-fence"
    assert (await client.post(path, json={"fence": granted.attempt.fence})).status_code == 404
    await client.delete("/v1/secrets/token")
    gone = await runner.post(path, json={"fence": granted.attempt.fence})
    assert (gone.status_code, gone.json()["code"]) == (422, "secret-missing")
    end = {"fence": granted.attempt.fence, "exit_code": 1, "result": None}
    assert (await runner.post(path.replace("secrets", "finish"), json=end)).status_code == 204
    assert (await runner.post(path, json={"fence": granted.attempt.fence})).json()["code"] == "attempt-over"


async def test_what_is_stored_of_an_attempt_is_without_its_secrets(
    app: Service, client: httpx2.AsyncClient, runner: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    granted = await secretive(client, engine)
    attempt, leaked = granted.attempt, f"it is {VALUE!r}"
    entry = {"number": 1, "at": "2030-01-01T00:00:00Z", "level": "info", "message": leaked}
    path = f"/internal/v1/leases/{attempt.id}"
    said = await runner.post(f"{path}/lines", json={"fence": attempt.fence, "entries": [entry]})
    assert said.status_code == 204, said.text
    async with client_of(app, {"authorization": f"Bearer {granted.token}"}) as program:
        said = await program.post(f"/internal/v1/attempts/{attempt.id}/logs", json={"entries": [entry]})
        assert said.status_code == 204, said.text
    failure = {"reason": "crashed", "message": leaked}
    end = {"fence": attempt.fence, "exit_code": 1, "result": None, "failure": failure}
    assert (await runner.post(f"{path}/finish", json=end)).status_code == 204
    async with engine.begin() as connection:
        lines = [row.message for row in await connection.execute(sa.select(tables.logs.c.message))]
        why = (await AttemptStore(connection).get("blue", attempt.id)).why
    assert lines == [f"it is '{HIDDEN}'"] * 2
    assert why.message == f"it is '{HIDDEN}'"


async def test_a_net_is_there_for_an_attempt_whose_secrets_were_deleted(
    app: Service, client: httpx2.AsyncClient, runner: httpx2.AsyncClient, engine: AsyncEngine
) -> None:
    granted = await secretive(client, engine)
    attempt = granted.attempt
    path = f"/internal/v1/leases/{attempt.id}"
    await runner.post(f"{path}/secrets", json={"fence": attempt.fence})
    await client.delete("/v1/secrets/token")
    entry = {"number": 1, "at": "2030-01-01T00:00:00Z", "level": "info", "message": VALUE}
    await runner.post(f"{path}/lines", json={"fence": attempt.fence, "entries": [entry]})
    async with engine.begin() as connection:
        lines = [row.message for row in await connection.execute(sa.select(tables.logs.c.message))]
        other = Secrecy(None)  # of a process that has not told it
        assert (await other.redactor(connection, attempt)).redact(VALUE) == VALUE
    assert lines == [HIDDEN]


async def test_few_attempts_are_remembered(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrecy, "REMEMBERED", 2)
    known = Secrecy(None)
    async with engine.begin() as connection:
        for _ in range(4):
            assert await known.redactor(connection, attempt_of()) is NOTHING_HIDDEN
    assert len(known._redactors) == 2
