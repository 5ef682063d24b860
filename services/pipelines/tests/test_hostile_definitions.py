"""A megabyte that was written to take long: read, and refused or taken, in a moment."""

import time
from datetime import timedelta

import pytest

from kit import errors
from pipelines.domain.definitions import check
from pipelines.domain.documents import Document, read_yaml
from pipelines.domain.expressions import LONGEST, names_in

MEGABYTE = 1 << 20
MOMENT = timedelta(seconds=10)
"""Of a processor. What these were written for takes minutes or days."""


def filled(part: str, size: int = MEGABYTE) -> str:
    return (part * (size // len(part) + 1))[:size]


def gates(*texts: str) -> str:
    steps = (f'{{"kind": "gate", "with": {{"require": ["{text}"]}}}}' for text in texts)
    return "steps: {" + ", ".join(f"s{n}: {step}" for n, step in enumerate(steps)) + "}"


HOSTILE = {
    "openings of references": "steps: {a: {kind: gate, with: {require: ['" + filled("${{", 1_000_000) + "']}}}",
    "openings with words": "steps: {a: {kind: gate, with: {require: ['" + filled("${{ a ", 1_000_000) + "']}}}",
    "one step's needs": "steps: {a: {kind: gate, needs: [" + filled("a,", 1_000_000) + "]}}",
    "unknown needs": "steps: {a: {kind: gate, needs: [" + filled("x,", 1_000_000) + "]}}",
    "quotes": gates(*[filled("'", LONGEST)] * 200),
    "triple quotes": gates(*[filled("'''x", LONGEST)] * 200),
    "dots": gates(*[filled("steps . ", LONGEST)] * 200),
    "unknown kinds": "steps: {" + ", ".join(f"s{n}: {{kind: x}}" for n in range(10_000)) + "}",
    "too many steps": "steps: {" + ", ".join(f"s{n}: {{kind: x}}" for n in range(30_000)) + "}",
    "a circle of all": "steps: {"
    + ", ".join(f"s{n}: {{kind: gate, needs: [s{(n + 1) % 10_000}]}}" for n in range(10_000))
    + "}",
    "a chain of all": "steps: {"
    + ", ".join(f"s{n}: {{kind: gate, needs: [s{n + 1 if n < 9_999 else n}]}}" for n in range(10_000))
    + "}",
    "digits": "parameters: {a: " + filled("1", 1_000_000) + "}",
    "keys": "steps: {" + ", ".join(f"{n}: 1" for n in range(80_000)) + "}",
    "brackets": filled("["),
    "braces": filled("{a: "),
    "anchors": filled("- &a x\n"),
    "tabs": filled("\t"),
    "words": filled("word "),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_it_takes_a_moment(text: str) -> None:
    began = time.process_time()
    try:
        _, places = check(read_yaml(text.encode()))
        assert len(places) <= 100
    except errors.Malformed:
        pass
    assert time.process_time() - began < MOMENT.total_seconds()


def test_the_longest_expression_is_read_once() -> None:
    began = time.process_time()
    for part in ("'", '"', "'''", "\\'", "steps.", "steps ", "[ '", 'r"\\"'):
        names_in(filled(part, LONGEST))
    assert time.process_time() - began < 5


def test_a_document_of_a_thousand_mistakes_says_a_hundred() -> None:
    steps = {f"s{n}": {"kind": 1} for n in range(1000)}
    _, places = check(Document({"steps": steps}))
    assert len(places) == 100
