"""Who says that a file is a version of a model, and who is believed."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OKPKey

from kit import attestations, errors
from kit.attestations import AttestationInvalid, Attested, Policy, Trust, public_keys, read, sign, signers

VERSION, MODEL, OTHER = ("sha256:" + digit * 64 for digit in "abc")
ATTESTED = Attested(VERSION, {"model.onnx": MODEL, "model.skops": OTHER})


def key(kid: str) -> dict[str, Any]:
    return {**OKPKey.generate_key("Ed25519").as_dict(private=True), "kid": kid}


def public(jwk: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name != "d"}


ADA, GRACE = key("ada"), key("grace")


def trust(*keys: Mapping[str, Any]) -> Trust:
    return Trust(keys=public_keys(keys))


def test_what_is_signed_is_read_and_believed_with_the_key_alone() -> None:
    envelope = json.loads(json.dumps(sign(ATTESTED, ADA)))
    assert read(envelope) == (ATTESTED, ["ada"])
    keys = public_keys([public(ADA), public(GRACE)])
    assert signers(envelope, keys) == {"ada"}
    assert trust(ADA).signers([envelope], VERSION, MODEL) == {"ada"}
    assert trust(GRACE).signers([envelope], VERSION, MODEL) == set()


def test_the_statement_is_in_totos_and_the_encoding_that_of_dsse() -> None:
    # The example of the DSSE specification, with this payload type: PAE("type", "hello world").
    assert attestations.pae(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
    statement = json.loads(base64.b64decode(sign(ATTESTED, ADA)["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"][0] == {"name": "model.onnx", "digest": {"sha256": "b" * 64}}
    assert statement["predicate"] == {"digest": VERSION}


def test_it_speaks_of_this_version_with_this_file_and_of_no_other() -> None:
    envelope = sign(ATTESTED, ADA)
    assert trust(ADA).signers([envelope], OTHER, MODEL) == set()
    assert trust(ADA).signers([envelope], VERSION, VERSION) == set()
    assert trust(ADA).signers([{}, envelope], VERSION, OTHER) == {"ada"}


def test_a_changed_payload_or_a_signature_of_another_key_is_believed_by_nobody() -> None:
    envelope = sign(ATTESTED, ADA)
    changed = {**envelope, "payload": sign(Attested(OTHER, {"model.onnx": MODEL}), ADA)["payload"]}
    assert trust(ADA).signers([changed], OTHER, MODEL) == set()
    claimed = sign(ATTESTED, {**GRACE, "kid": "ada"})
    assert trust(ADA).signers([claimed], VERSION, MODEL) == set()
    both = {**envelope, "signatures": [*claimed["signatures"], *envelope["signatures"]]}
    assert trust(ADA).signers([both], VERSION, MODEL) == {"ada"}


def payload(text: bytes) -> dict[str, Any]:
    return {**sign(ATTESTED, ADA), "payload": base64.b64encode(text).decode()}


STATEMENT = ATTESTED.statement()


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        [],
        {**sign(ATTESTED, ADA), "payloadType": "text/plain"},
        {**sign(ATTESTED, ADA), "more": 1},
        {**sign(ATTESTED, ADA), "payload": "not base64!"},
        {**sign(ATTESTED, ADA), "payload": 7},
        {**sign(ATTESTED, ADA), "signatures": []},
        {**sign(ATTESTED, ADA), "signatures": {}},
        {**sign(ATTESTED, ADA), "signatures": sign(ATTESTED, ADA)["signatures"] * 11},
        {**sign(ATTESTED, ADA), "signatures": [{"keyid": "ada"}]},
        {**sign(ATTESTED, ADA), "signatures": ["ada"]},
        payload(b"{"),
        payload(b"[]"),
        payload(b'{"_type":1,"_type":2}'),
        payload(json.dumps({**STATEMENT, "_type": "other"}).encode()),
        payload(json.dumps({**STATEMENT, "predicateType": "other"}).encode()),
        payload(json.dumps({**STATEMENT, "predicate": {}}).encode()),
        payload(json.dumps({**STATEMENT, "subject": [{"name": "a"}]}).encode()),
        payload(json.dumps({**STATEMENT, "subject": 7}).encode()),
    ],
)
def test_what_is_no_attestation_of_a_version_is_said_to_be_none(envelope: Any) -> None:
    with pytest.raises(AttestationInvalid):
        read(envelope)
    assert trust(ADA).signers([envelope], VERSION, MODEL) == set()


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_a_trust_file_says_whom_to_believe_and_where_it_matters(tmp_path: Path) -> None:
    suite = write(tmp_path / "public.json", {"registry": [public(GRACE)], "trainer": [public(key("t"))]})
    path = write(tmp_path / "trust.json", {"policy": "require", "projects": {"lab": "warn"}, "keys": [public(ADA)]})
    found = Trust.load(path, suite)
    assert (found.of("prod"), found.of("lab")) == (Policy.REQUIRE, Policy.WARN)
    assert found.keys.keys() == {"ada", "grace"}
    alone = Trust.load(write(path, {"policy": "warn", "registry": False, "keys": [public(ADA)]}), suite)
    assert alone.keys.keys() == {"ada"}
    assert Trust.load(write(path, {}), suite).of("any") is Policy.REQUIRE  # who writes one means it


def test_without_a_trust_file_nobody_has_to_be_believed(tmp_path: Path) -> None:
    assert Trust.load(None, tmp_path / "none").of("prod") is Policy.OFF


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        {"policy": "maybe"},
        {"projects": []},
        {"keys": [{"kid": "a"}]},
        {"keys": [{**public(ADA), "crv": "Ed448", "x": "A" * 76}]},
        {"keys": [{**public(OKPKey.generate_key("X25519").as_dict(private=False)), "kid": "x"}]},
    ],
)
def test_a_trust_file_that_cannot_be_used_lets_nothing_pass(tmp_path: Path, document: object) -> None:
    suite = write(tmp_path / "public.json", {"registry": [public(GRACE)]})
    with pytest.raises(errors.Unavailable, match=r"trust\.json cannot be used"):
        Trust.load(write(tmp_path / "trust.json", document), suite)


def test_nor_does_one_that_is_not_there_or_believes_a_registry_without_keys(tmp_path: Path) -> None:
    suite = write(tmp_path / "public.json", {})
    for path in (tmp_path / "absent.json", write(tmp_path / "trust.json", {"registry": True})):
        with pytest.raises(errors.Unavailable):
            Trust.load(path, suite)
