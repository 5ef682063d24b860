"""How keys are written, and what of them is kept."""

import hashlib

import pytest

from gateway.domain.keys import ALPHABET, ID_ALPHABET, ApiKey, make_key, read_key
from gateway.domain.sealing import Unsealable, seal, unseal

KEY = ApiKey("abcd1234", "s" * 32)


def test_a_key_is_written_and_read() -> None:
    key = make_key()

    assert read_key(str(key)) == key
    assert str(key).startswith(f"ty_{key.id}_{key.secret}")
    assert len(str(key)) == 50


def test_keys_are_random() -> None:
    assert len({str(make_key()) for _ in range(100)}) == 100


def test_keys_use_the_whole_of_their_alphabets() -> None:
    asked: list[str] = []

    def last(alphabet: str) -> str:
        asked.append(alphabet)
        return alphabet[-1]

    assert make_key(last) == ApiKey("9" * 8, "Z" * 32)
    assert asked == [ID_ALPHABET] * 8 + [ALPHABET] * 32


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ty_",
        "not a key",
        str(KEY)[:-1],
        str(KEY) + "0",
        str(KEY) + "\n",
        str(KEY).upper(),
        str(KEY).replace("ssss", "ssst", 1),
        str(KEY)[:-1] + ("0" if str(KEY)[-1] != "0" else "1"),
        "ty_" + "é" * 47,
    ],
)
def test_what_is_no_key_is_seen_without_looking_it_up(text: str) -> None:
    assert read_key(text) is None


def test_only_a_digest_is_kept_and_a_key_knows_its_own() -> None:
    assert KEY.digest == hashlib.sha256(b"s" * 32).digest()
    assert KEY.is_of(KEY.digest)
    assert not ApiKey("abcd1234", "t" * 32).is_of(KEY.digest)


def test_a_key_does_not_show_itself_by_accident() -> None:
    assert KEY.secret not in repr(KEY)
    assert KEY.secret not in f"{[KEY]}"


def test_a_sealed_answer_is_read_by_who_asked_and_nobody_else() -> None:
    sealed = seal(b"the answer", "mine")

    assert b"answer" not in sealed
    assert unseal(sealed, "mine") == b"the answer"
    assert seal(b"the answer", "mine") != sealed
    for wrong, secret in ((sealed, "yours"), (sealed[:-1], "mine"), (b"", "mine")):
        with pytest.raises(Unsealable):
            unseal(wrong, secret)
