"""Who may ask at all, who may ask what is internal, and what the registry never imports."""

import subprocess
import sys

import httpx2

from kit.app import Service
from kit.callers import Role
from kit.testing import SERVICES, undeclared, unguarded
from registry.testing import FILE, Headers, Trainer, code_of, digest_of, manifest_of

FRAMEWORKS = {
    "numpy",
    "scipy",
    "sklearn",
    "skops",
    "onnx",
    "onnxruntime",
    "skl2onnx",
    "torch",
    "pyarrow",
    "duckdb",
    "models",
}


async def test_nobody_asks_without_a_token(app: Service, engine: object) -> None:
    assert await unguarded(app) == []
    assert undeclared(app) == []


async def test_only_the_trainer_registers(users: httpx2.AsyncClient, headers: Headers) -> None:
    for issuer in sorted({*SERVICES} - {"trainer"}):
        users.headers.update(headers(issuer=issuer, role=Role.ADMIN))
        answers = [
            await users.put(f"/internal/v1/blobs/{digest_of(FILE)}", content=FILE),
            await users.put("/internal/v1/models/flight-delays/versions", json=manifest_of()),
        ]
        assert [code_of(answer) for answer in answers] == 2 * [(404, "route-not-found")], issuer


async def test_the_trainer_needs_the_role_too(trainer: Trainer, headers: Headers) -> None:
    trainer.http.headers.update(headers(issuer="trainer", role=Role.VIEWER))
    for answer in (await trainer.upload(), await trainer.register()):
        assert code_of(answer) == (403, "role-too-low")


async def test_what_happened_is_in_the_feed_and_the_audit(
    users: httpx2.AsyncClient, trainer: Trainer, headers: Headers
) -> None:
    [version] = await trainer.make(1)
    alias = "/v1/models/flight-delays/aliases/champion"
    await users.put(alias, json={"version": 1})
    await users.delete(alias)
    await users.delete("/v1/models/flight-delays/versions/1")
    users.headers.update(headers(issuer="serving"))
    feed = (await users.get("/internal/v1/events")).json()
    target = {"model": "flight-delays", "version": 1, "digest": version["digest"]}
    pointed = target | {"alias": "champion"}
    assert [(event["kind"], event["subject"], event["data"]) for event in feed["events"]] == [
        ("model.version.registered", "flight-delays@1", target),
        ("model.alias.moved", "flight-delays@champion", pointed),
        ("model.alias.deleted", "flight-delays@champion", pointed),
        ("model.version.deleted", "flight-delays@1", target),
    ]
    users.headers.update(headers(role=Role.ADMIN))
    entries = (await users.get("/internal/v1/audit")).json()["items"]
    assert [(entry["action"], entry["noun"], entry["name"]) for entry in reversed(entries)] == [
        ("create", "model", "flight-delays"),
        ("create", "model-version", "flight-delays@1"),
        ("create", "model-alias", "flight-delays@champion"),
        ("delete", "model-alias", "flight-delays@champion"),
        ("delete", "model-version", "flight-delays@1"),
    ]
    users.headers.update(headers(issuer="trainer", role=Role.ADMIN))
    assert (await users.get("/internal/v1/audit")).status_code == 404


def test_the_registry_imports_no_framework() -> None:
    """Weights are bytes here: whatever could load them would be a way in, and half a gigabyte."""
    program = "import sys, registry.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "registry" in found.stdout.split()
    assert FRAMEWORKS.isdisjoint(found.stdout.split())
