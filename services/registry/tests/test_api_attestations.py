"""Who says that these files are that version: the registry of itself, and whoever has a key."""

import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from joserfc.jwk import OKPKey

from kit.attestations import SIGNATURES, Attested, Trust, public_keys, read, sign
from kit.callers import Role
from kit.testing import KeyFolder
from registry.testing import FILE, Headers, Trainer, code_of, digest_of

MODEL = "/v1/models/flight-delays"
VERSIONS = f"{MODEL}/versions"


def key(kid: str) -> dict[str, Any]:
    return {**OKPKey.generate_key("Ed25519").as_dict(private=True), "kid": kid}


ADA = key("ada")


def attested_by(version: Mapping[str, Any], jwk: Mapping[str, Any]) -> dict[str, Any]:
    files = {file["path"]: file["digest"] for file in version["formats"]}
    return sign(Attested(version["digest"], files), jwk)


def place(version: Mapping[str, Any], keyid: str = "ada") -> str:
    return f"{VERSIONS}/{version['version']}/attestations/{keyid}"


async def test_the_registry_attests_what_it_registers_and_the_suites_public_keys_prove_it(
    trainer: Trainer, key_folder: KeyFolder
) -> None:
    [version] = await trainer.make(1)
    [envelope] = version["attestations"]
    assert read(envelope)[0] == Attested(version["digest"], {version["formats"][0]["path"]: digest_of(FILE)})
    trust = Trust(keys=public_keys(json.loads(key_folder.public.read_bytes())["registry"]))
    assert len(trust.signers(version["attestations"], version["digest"], digest_of(FILE))) == 1


async def test_an_editor_adds_one_and_the_same_key_says_it_anew_in_its_place(
    users: httpx2.AsyncClient, trainer: Trainer
) -> None:
    [version] = await trainer.make(1)
    for _ in range(2):
        answer = await users.put(place(version), json=attested_by(version, ADA))
        assert answer.status_code == 200
    again = attested_by(version, key("ada"))
    assert (await users.put(place(version), json=again)).json()["attestations"] == [*version["attestations"], again]
    assert (await users.get(f"{VERSIONS}/1")).json()["attestations"] == [*version["attestations"], again]


@pytest.mark.parametrize(
    ("keyid", "change"),
    [
        ("ada", {"payloadType": "text/plain"}),
        ("ada", {"signatures": []}),
        ("grace", {}),
        ("registry-1", {}),
        ("ada", {"more": "x" * (17 << 10)}),
    ],
)
async def test_what_is_no_attestation_of_that_key_is_refused(
    users: httpx2.AsyncClient, trainer: Trainer, keyid: str, change: dict[str, Any]
) -> None:
    [version] = await trainer.make(1)
    answer = await users.put(place(version, keyid), json=attested_by(version, ADA) | change)
    assert code_of(answer) == (422, "attestation-invalid")
    assert (await users.get(f"{VERSIONS}/1")).json() == version


async def test_one_of_another_version_is_refused(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    first, second = await trainer.make(1, 2)
    answer = await users.put(place(first), json=attested_by(second, ADA))
    assert code_of(answer) == (422, "attestation-invalid")
    assert "flight-delays@1" in answer.json()["detail"]


async def test_there_is_an_end_to_attestations(users: httpx2.AsyncClient, trainer: Trainer) -> None:
    [version] = await trainer.make(1)
    answers = [
        (await users.put(place(version, f"k{number}"), json=attested_by(version, key(f"k{number}")))).status_code
        for number in range(SIGNATURES)
    ]
    assert answers == [200] * (SIGNATURES - 1) + [422]


async def test_who_may_not_change_a_model_does_not_attest_it(
    users: httpx2.AsyncClient, trainer: Trainer, headers: Headers
) -> None:
    [version] = await trainer.make(1)
    envelope = attested_by(version, ADA)
    assert (await users.put(place(version), json=envelope, headers=headers(role=Role.VIEWER))).status_code == 403
    assert (await users.put(place(version), json=envelope, headers=headers(project="other"))).status_code == 404
    assert (await users.put(f"{MODEL}/versions/latest/attestations/ada", json=envelope)).status_code == 422
    assert (await users.put(f"{MODEL}/versions/9/attestations/ada", json=envelope)).status_code == 404
