"""Names, aliases, references, and who keeps a version."""

import uuid
from datetime import UTC, datetime

import pytest

from registry.domain.aliases import Alias, Target, is_alias
from registry.domain.manifests import Manifest
from registry.domain.models import is_name
from registry.domain.versions import (
    FileNotFound,
    Reference,
    Version,
    VersionNotFound,
    VersionNumberNeeded,
    in_use,
    numbered,
    reference_of,
    split_reference,
    users_of,
)
from registry.testing import manifest_of

DIGEST = "sha256:" + "ab" * 32
AT = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize("name", ["a", "flight-delays", "a.b_c", "1", "x" * 63])
def test_names_of_models(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a..b", "a/b", "a@b", "a\n", "x" * 64, "ä", "a\0", "."])
def test_no_names_of_models(name: str) -> None:
    assert not is_name(name)


@pytest.mark.parametrize("alias", ["champion", "a", "v2", "2v", "1-2", "x" * 63])
def test_names_of_aliases(alias: str) -> None:
    assert is_alias(alias)


@pytest.mark.parametrize(
    "alias",
    ["", "latest", "1", "007", "٣", "Champion", "a.b", "a_b", "-a", "a-", "x" * 64, "a\n", "sha256:ab", DIGEST],
)
def test_no_names_of_aliases(alias: str) -> None:
    assert not is_alias(alias)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("latest", Reference()),
        ("3", Reference(number=3)),
        ("999999999", Reference(number=999_999_999)),
        ("champion", Reference(alias="champion")),
        (DIGEST, Reference(digest=DIGEST)),
    ],
)
def test_references(text: str, reference: Reference) -> None:
    assert reference_of(text) == reference
    assert str(reference) == text
    assert split_reference(f"flight-delays@{text}") == ("flight-delays", reference)


def test_a_name_alone_means_its_newest_version() -> None:
    assert split_reference("flight-delays") == ("flight-delays", Reference())
    assert split_reference("flight-delays@") == ("flight-delays", Reference())


@pytest.mark.parametrize("text", ["", "0", "03", "1000000000", "-1", "1.0", "Champion", "sha256:ab", "a@b", "a\0", "٣"])
def test_no_references(text: str) -> None:
    with pytest.raises(VersionNotFound):
        reference_of(text)


def version() -> Version:
    return Version(
        id=uuid.UUID(int=1),
        project="blue",
        model="flight-delays",
        number=3,
        digest=DIGEST,
        manifest=Manifest.model_validate(manifest_of()),
        created_at=AT,
    )


def test_a_version_knows_its_files_by_their_names_alone() -> None:
    assert version().file("model.skops") == version().manifest.formats[0]
    for path in ("model.onnx", "../model.skops", "./model.skops", ""):
        with pytest.raises(FileNotFound):
            version().file(path)
    assert version().reference == "flight-delays@3"


def alias(id_: int = 1, revision: int = 1, target: int = 1) -> Alias:
    return Alias(
        id=uuid.UUID(int=id_),
        project="blue",
        model="flight-delays",
        name="champion",
        target=Target(target, DIGEST),
        revision=revision,
        updated_at=AT,
    )


def test_to_and_fro_is_another_state_of_an_alias_and_so_is_a_new_one() -> None:
    assert len({alias().state, alias(revision=3).state, alias(id_=2).state}) == 3
    assert alias().reference == "flight-delays@champion"


def test_a_refusal_names_the_first_users() -> None:
    assert users_of([], []) == []
    users = users_of(["champion", "shadow"], ["deployment:flights"])
    assert in_use(users) == "in use by alias champion, alias shadow, deployment:flights"
    assert in_use([str(number) for number in range(30)]).endswith("18, 19 and 10 more")


def test_only_a_number_names_what_is_deleted() -> None:
    assert numbered("3") == Reference(number=3)
    for text in ("latest", "champion", "sha256:" + "0" * 64, "", "0", "03"):
        with pytest.raises(VersionNumberNeeded):
            numbered(text)
