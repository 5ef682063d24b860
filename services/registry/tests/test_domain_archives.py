"""ZIP files of models: skops and pt2."""

import io
import json
import struct
import zipfile

import pytest
from model_files import SCHEMA, archive, check, node, npy, pt2, refused, skops

from registry.domain import archives
from registry.domain.findings import Wrong
from registry.domain.formats import UnsafeModel


def patched(data: bytes, place: int, what: bytes) -> bytes:
    return data[:place] + what + data[place + len(what) :]


def end_of(data: bytes) -> int:
    return data.rindex(b"PK\5\6")


def listed(data: bytes) -> int:
    return data.index(b"PK\1\2")


TWO = archive({"a.npy": b"1" * 50, "b.npy": b"2" * 50})
PLAIN = skops()


@pytest.mark.parametrize(
    "data",
    {
        "a pickle before it": b"PK\3\4" + PLAIN,
        "something behind it": PLAIN + b"\0" * 30,
        "a comment": patched(PLAIN, end_of(PLAIN) + 20, b"\1\0") + b"!",
        "more entries than may be": patched(PLAIN, end_of(PLAIN) + 10, b"\xff\xff"),
        "a list longer than it may be": patched(PLAIN, end_of(PLAIN) + 12, b"\0\0\0\x7f"),
        "a list that is not there": patched(PLAIN, end_of(PLAIN) + 16, b"\xff\xff\xff\x7f"),
        "no list": patched(PLAIN, listed(PLAIN), b"XXXX"),
        "an encrypted entry": patched(PLAIN, listed(PLAIN) + 8, b"\1\0"),
        "another packing": patched(PLAIN, listed(PLAIN) + 10, b"\x0c\0"),
        "an entry twice": patched(TWO, TWO.rindex(b"PK\1\2") + 42, b"\0\0\0\0"),
        "an entry that is not there": patched(TWO, TWO.rindex(b"PK\1\2") + 42, struct.pack("<L", 86)),
        "an entry that reaches into the list": patched(TWO, TWO.rindex(b"PK\1\2") + 20, struct.pack("<L", 90)),
        "another name before the entry than in the list": patched(PLAIN, 30, b"schemb.json"),
        "another name before an array": patched(PLAIN, PLAIN.index(b"a.npy\x93"), b"b"),
    }.values(),
    ids=lambda data: "",
)
def test_a_zip_that_two_would_read_in_two_ways_is_refused(data: bytes) -> None:
    refused("skops", data)


@pytest.mark.parametrize("name", ["../a.npy", "/a.npy", "a\\b.npy", "C:a.npy", "x//a.npy", "./a.npy", "a\n.npy", "d/", "é\0.npy", "x" * 600])  # fmt: skip # noqa: E501
def test_no_entry_leads_out_of_the_archive(name: str) -> None:
    refused("skops", archive({"schema.json": json.dumps(SCHEMA), "a.npy": npy(), name: b""}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["schema.json", "SCHEMA.json"])
def test_no_name_is_there_twice(second: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        for name in ("schema.json", second):
            out.writestr(name, json.dumps(SCHEMA))
    assert "twice" in refused("skops", packed.getvalue())


def test_what_unpacks_to_more_than_a_model_may_be_is_not_unpacked() -> None:
    bomb = archive({"schema.json": b" " * (1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    opened = archives.open_archive(io.BytesIO(bomb), len(bomb))
    with pytest.raises(Wrong, match="more than 65536 bytes"):
        archives.read_json(opened, "schema.json", 1 << 16)
    with pytest.raises(Wrong, match="unpacks to more"):
        archives.open_archive(io.BytesIO(bomb), len(bomb), 1 << 19)


def test_a_damaged_entry_is_refused() -> None:
    packed = archive({"schema.json": json.dumps(SCHEMA) * 3}, compression=zipfile.ZIP_DEFLATED)
    assert "damaged" in refused("skops", patched(packed, 60, b"\xff\xff\xff"))


# skops


def test_all_that_models_are_written_with_is_taken() -> None:
    check("skops", skops(SCHEMA | {"extra": [node("TypeNode", "builtins", "float"), node("JsonNode", "builtins", "NoneType")]}))  # fmt: skip # noqa: E501


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (archive({"a.npy": npy()}), "no schema.json"),
        (skops(files={"a.npy": npy(), "b.py": b""}), "more than that"),
        (skops(files={"a.npy": npy(), "x/b.npy": b""}), "more than that"),
        (archive({"schema.json": b"{"}), "no JSON"),
        (archive({"schema.json": b"[" * 100_000}), "no JSON"),
        (skops([SCHEMA]), "describes no object"),
        (skops({}), "describes no object"),
        (skops(node(module="os", name="system")), "os.system"),
        (skops(node("FunctionNode", "builtins", "eval")), "builtins.eval"),
        (skops(node(content=[node(module="subprocess", name="Popen")])), "subprocess.Popen"),
        (skops({"__class__": "X", "__module__": "sklearn", "__loader__": "x", "a": {"__class__": 1}}), "no model has"),
        (skops(node("MethodNode")), "MethodNode"),
        (skops(node("JoblibNode")), "JoblibNode"),
        (skops(node("NdArrayNode", "numpy", "ndarray", file="b.npy")), "not in it"),
        (skops(files={"a.npy": npy("|O")}), "no array of numbers"),
        (skops(files={"a.npy": b"\x80\x04."}), "no array of numbers"),
    ],
)
def test_a_skops_file_holds_what_models_are_made_of(data: bytes, why: str) -> None:
    assert why in refused("skops", data)


# pt2


PICKLED_WEIGHTS = b'{"config": {"w": {"path_name": "weight_0", "use_pickle": true}}}'


@pytest.mark.parametrize(
    "files",
    [
        {"data__constants__custom_obj_0": b"x"},
        {"data__constants__opaque_obj_0": b"x"},
        {"data__aotinductor__model__a.so": b"\x7fELF"},
        {"data__weights__model_weights_config.json": PICKLED_WEIGHTS},
        {"data__constants__model_constants_config.json": PICKLED_WEIGHTS},
        {"data__weights__x.pkl": b""},
    ],
)
def test_code_and_pickles_in_a_pt2_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(UnsafeModel):
        check("pt2", pt2(**files))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (pt2(archive_format=b"pt3"), "not pt2"),
        (pt2(strange=b""), "no part"),
        (archive({"m/archive_format": b"pt2"}), "no model"),
        (archive({"m/archive_format": b"pt2", "n/models/model.json": b""}), "not an archive"),
        (archive({"serialized_exported_program.json": b"{}", "version": b"8"}), "2.8"),
        (pt2(**{"data__weights__model_weights_config.json": b"no"}), "no JSON"),
    ],
)
def test_what_is_no_exported_program_is_refused(data: bytes, why: str) -> None:
    assert why in refused("pt2", data)


def test_what_stands_before_an_entry_of_a_pt2_is_what_its_list_says() -> None:
    data = pt2()
    place = data.index(b"model/data/weights/weight_0")
    assert "another name" in refused("pt2", patched(data, place, b"modem"))
    assert "not there" in refused("pt2", patched(data, place - 30, b"XX"))
