"""YAML as JSON: what it means, what is refused, and where."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.domain.documents import Document, MalformedYaml, pointer_of, read_yaml, texts_of

EXAMPLE = Path(__file__).parents[3] / "examples/flight-delays/pipeline.yaml"


def read(text: str) -> Any:
    return read_yaml(text.encode()).value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("a:", {"a": None}),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on: off", {"on": "off"}),
        ("12", 12),
        ("-7", -7),
        ("9223372036854775807", 9223372036854775807),
        ("9223372036854775808", 9223372036854775808.0),
        ("0.5", 0.5),
        (".5e3", 500.0),
        ("1:30", "1:30"),
        ("2013-01-01", "2013-01-01"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("[1, {a: [2]}, x]", [1, {"a": [2]}, "x"]),
        ("12: x", {"12": "x"}),
        ("a: ${{ parameters.b }}", {"a": "${{ parameters.b }}"}),
    ],
)
def test_scalars_mean_what_they_mean_in_json(text: str, value: object) -> None:
    found = read(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "pointer", "line", "detail"),
    [
        ("a: &x [1]\nb: *x\n", "#/b", 2, "alias"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "#/b/c", 4, "twice"),
        ("a: !!python/object:os.system x", "#/a", 1, "tag"),
        ("a: ! 12", "#/a", 1, "tag"),
        ("a: !!set {x}", "#/a", 1, "tag"),
        ("a: [1, .nan]", "#/a/1", 1, "no number"),
        ("a: -.inf", "#/a", 1, "no number"),
        ("a: 1e999", "#/a", 1, "no number"),
        ("? [a, b]\n: c\n", "#", 1, "key"),
        ("a: 1\n---\nb: 2\n", "#", 2, "second document"),
        ('a: "x\\0y"', "#/a", 1, "NUL"),
        ("a: ]", "#", 1, "not YAML"),
        ("a: b: c", "#", 1, "not YAML"),
        ("[" * 33, "#" + "/0" * 32, 1, "deeper than 32"),
        ("{a: " * 40, "#" + "/a" * 32, 1, "deeper than 32"),
    ],
)
def test_what_is_refused_has_a_place(text: str, pointer: str, line: int, detail: str) -> None:
    with pytest.raises(MalformedYaml) as caught:
        read(text)
    [place] = caught.value.errors
    assert place["pointer"] == pointer
    assert place.get("line") == line
    assert detail in place["detail"]
    assert f"line {line}" in caught.value.detail


def test_a_bomb_of_aliases_is_refused_at_the_first_one() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    with pytest.raises(MalformedYaml, match="alias"):
        read("\n".join(lines))


def test_a_hundred_thousand_brackets_are_refused_without_recursion() -> None:
    with pytest.raises(MalformedYaml):
        read("[" * 100_000)


def test_there_is_an_end_to_values() -> None:
    with pytest.raises(MalformedYaml, match="more than 150000 values"):
        read("[" + "a," * 200_000 + "]")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: \xc3\x28", b"a: \x01", b'a: "\\ud800"'])
def test_what_is_no_text_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedYaml):
        read_yaml(content)


def test_the_example_reads_as_it_stands() -> None:
    document = read_yaml(EXAMPLE.read_bytes())
    assert list(document.value["steps"]) == ["ingest", "train", "gate", "promote", "deploy"]
    assert document.value["parameters"] == {"upload": "", "minimum_auc": 0.68}


def test_a_mistake_has_the_line_of_its_place() -> None:
    document = read_yaml(b"a:\n  b: 1\n  c: [1,\n    2]\n")
    assert document.place("#/a/c/1", "is wrong") == {"pointer": "#/a/c/1", "detail": "is wrong (line 4)", "line": 4}


def test_what_is_missing_is_missing_in_what_lacks_it() -> None:
    document = read_yaml(b"a:\n  b: 1\n")
    assert document.place("#/a/x/y", "is missing")["line"] == 2


def test_json_has_no_lines() -> None:
    assert Document({"a": 1}).place("#/a", "is wrong") == {"pointer": "#/a", "detail": "is wrong"}


def test_pointers_are_escaped() -> None:
    assert pointer_of("a/b", "c~d", 0) == "#/a~1b/c~0d/0"


def test_every_string_has_a_path() -> None:
    assert list(texts_of({"a": ["x", {"b": "y"}, 1, None]})) == [(("a", 0), "x"), (("a", 1, "b"), "y")]
