"""What a file must be to be taken for a model's: known by its content, and by nothing else."""

import bz2
import gzip
import lzma
import pickle
import zlib
from collections import OrderedDict
from typing import Any

import pytest
from model_files import SOUND, XGBOOST_UBJ, archive, check, refused

from registry.domain.formats import FormatMismatch, UnsafeModel, refuse_unsafe
from registry.domain.pickles import unsafe_kind


@pytest.mark.parametrize("format", SOUND)
def test_a_sound_file_is_taken(format: str) -> None:
    check(format, SOUND[format])


@pytest.mark.parametrize("format", SOUND)
@pytest.mark.parametrize("other", SOUND)
def test_a_file_is_of_its_own_format_alone(format: str, other: str) -> None:
    if format != other:
        refused(format, SOUND[other])


@pytest.mark.parametrize("format", SOUND)
def test_nothing_is_no_model(format: str) -> None:
    refused(format, b"")


@pytest.mark.parametrize("format", SOUND)
def test_a_file_that_is_cut_off_is_none(format: str) -> None:
    data = SOUND[format].rstrip()
    for end in {1, 7, len(data) // 2, len(data) - 1}:
        if not (format == "lightgbm" and end == len(data) - 1):  # its last letter is not missed
            refused(format, data[:end])


@pytest.mark.parametrize("format", SOUND)
def test_noise_is_none(format: str) -> None:
    for seed in range(1, 60):
        noise = bytes((seed * 131 + place * place * 7 + place // 3) % 256 for place in range(seed * 5))
        with pytest.raises((FormatMismatch, UnsafeModel)):
            check(format, noise)


class Thing:
    """What a pickle would make."""

    def __init__(self) -> None:
        self.numbers = [1.5, 2.5]
        self.name = "a thing"


PICKLED = [Thing(), [Thing()], {"model": Thing()}, (Thing(), 1), OrderedDict(a=1), [1, "a", 2.5, None, {"b": 1}]]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("thing", PICKLED, ids=lambda thing: type(thing).__name__)
def test_a_pickle_is_known_by_every_name(thing: Any, protocol: int) -> None:
    data = pickle.dumps(thing, protocol)
    for format in SOUND:
        with pytest.raises(UnsafeModel, match="a pickle") as caught:
            check(format, data, f"model.{format}")
        assert "skl2onnx" in caught.value.detail
    long = pickle.dumps([thing] * 5 + ["x" * 5000], protocol)
    with pytest.raises(UnsafeModel, match="a pickle"):
        refuse_unsafe(long[:4096], "model.onnx")


@pytest.mark.parametrize("data", [b"(lp0\n.", b"]q\0.", b"(dp0\n."])
def test_the_shortest_pickles_are_known_too(data: bytes) -> None:
    assert unsafe_kind(data) == "a pickle"


PACKED = {
    "gzip": gzip.compress(b"x"),
    "bz2": bz2.compress(b"x"),
    "xz": lzma.compress(b"x"),
    "lzma": lzma.compress(b"x", lzma.FORMAT_ALONE),
    "zlib": zlib.compress(b"x"),
    "lz4": b"\x04\x22\x4d\x18x",
    "zstd": b"\x28\xb5\x2f\xfdx",
    "old joblib": b"ZF0x10",
    "HDF5": b"\x89HDF\r\n\x1a\n\0\0",
    "ELF": b"\x7fELF\2",
    "PE": b"MZ\x90",
}


@pytest.mark.parametrize("kind", PACKED)
def test_what_pickles_are_packed_in_is_known(kind: str) -> None:
    with pytest.raises(UnsafeModel):
        check("onnx", PACKED[kind])


ARCHIVES = {
    "torch.save": archive({"model/data.pkl": b"\x80\x02}q\0.", "model/data/0": b"\0", "model/version": b"3"}),
    "TorchScript": archive({"m/data.pkl": b"", "m/code/__torch__.py": b"", "m/constants.pkl": b""}),
    "Keras": archive({"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b"\x89HDF"}),
    "joblib in a zip": archive({"x/model.JOBLIB": b""}),
}


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("format", SOUND)
def test_archives_of_pickles_are_known_by_every_name(kind: str, format: str) -> None:
    with pytest.raises(UnsafeModel):
        check(format, ARCHIVES[kind])


@pytest.mark.parametrize(
    "data", [*SOUND.values(), XGBOOST_UBJ, b"", b"(", b"plain text\n", b"(lp0\n", b"]q\0\xff", b"]q\0\x01"]
)
def test_nothing_else_is_taken_for_a_pickle(data: bytes) -> None:
    assert unsafe_kind(data[:4096]) is None
