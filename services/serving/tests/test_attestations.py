"""Whom a replica believes that a file is the version which the registry says it is."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OKPKey
from registries import Registry, digest_of
from servings_at_work import Serving
from sqlalchemy.ext.asyncio import AsyncEngine
from targets import target
from test_replica import Source
from test_residents import NoChildren
from worlds import rows, trained

from kit.attestations import AttestationMissing, Attested, Policy, Trust, public_keys, sign
from kit.testing import KeyFolder
from serving.domain.revisions import File, Target, is_same
from serving.replica.files import Files
from serving.replica.lanes import Queueing
from serving.replica.residents import Loader
from serving.settings import Settings

ADA = {**OKPKey.generate_key("Ed25519").as_dict(private=True), "kid": "ada"}


def described() -> tuple[bytes, Target]:
    content = trained().files["onnx"]
    file = File("onnx", "model.onnx", digest_of(content), len(content))
    return content, target(file=file, signature=trained().signature.to_json(), example=())


def attested(one: Target) -> Target:
    return replace(one, attestations=(sign(Attested(one.digest, {one.file.path: one.file.digest}), ADA),))


async def load(folder: Path, one: Target, content: bytes, policy: Policy) -> int:
    """How often the registry was asked for bytes."""
    source = Source(content)
    files = Files(folder, source, largest=len(content))
    files.prepare()
    trust = Trust(policy, keys=public_keys([ADA]))
    loader = Loader(files, NoChildren(), queueing=Queueing(1), threads=1, trust=lambda: trust)
    try:
        await loader.load("demo", one)
    finally:
        loader.close()
        files.close()
    return source.asked


async def test_what_has_to_be_attested_and_is_not_is_refused_before_a_byte_of_it_is_read(tmp_path: Path) -> None:
    content, one = described()
    with pytest.raises(AttestationMissing, match="late@1"):
        await load(tmp_path, one, content, Policy.REQUIRE)
    other = attested(replace(one, digest=digest_of(b"another version")))
    with pytest.raises(AttestationMissing):
        await load(tmp_path, replace(one, attestations=other.attestations), content, Policy.REQUIRE)
    assert not list((tmp_path / "models").iterdir())
    assert await load(tmp_path, attested(one), content, Policy.REQUIRE) == 1


async def test_a_warning_is_a_line_of_the_log_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content, one = described()
    with caplog.at_level(logging.WARNING, logger="serving.replica.residents"):
        assert await load(tmp_path / "a", attested(one), content, Policy.WARN) == 1
        assert await load(tmp_path / "b", one, content, Policy.OFF) == 1
        assert caplog.messages == []
        assert await load(tmp_path / "c", one, content, Policy.WARN) == 1
    assert caplog.messages == ["not attested"]


def test_who_has_signed_stays_with_a_revision_and_makes_a_new_one_of_it() -> None:
    _, one = described()
    signed = attested(one)
    assert Target.from_json(json.loads(json.dumps(signed.to_json()))).attestations == signed.attestations
    assert Target.from_json({name: it for name, it in one.to_json().items() if name != "attestations"}) == one
    assert not is_same([one], [signed])
    assert is_same([signed], [attested(one)])


async def test_a_deployment_waits_for_its_attestation_and_serves_once_it_is_there(
    settings: Callable[..., Settings],
    engine: AsyncEngine,
    key_folder: KeyFolder,
    registry: Registry,
    tmp_path: Path,
) -> None:
    public: dict[str, Any] = {name: it for name, it in ADA.items() if name != "d"}
    path = tmp_path / "trust.json"
    path.write_text(json.dumps({"policy": "require", "registry": False, "keys": [public]}))
    registry.register("late", trained())
    async with Serving.started(settings(trust_file=path), key_folder) as serving:
        assert (await serving.put("guarded", "late")).is_success
        found = await serving.settled("guarded", "failed")
        assert found["status"]["reason"] == "attestation-missing"
        version = registry.versions["demo", "late"][1]
        files = {file["path"]: file["digest"] for file in version["formats"]}
        version["attestations"] = [sign(Attested(version["digest"], files), ADA)]
        registry.happened("model.version.attested", "demo", {"model": "late", "version": 1})
        await serving.answers_with_patience("guarded", rows(1)[0], 1)
