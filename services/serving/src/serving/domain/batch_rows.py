"""Rows of a dataset become requests of a batch, and answers become lines of its result.

A row goes the way that it would go in the body of a request: JSON in, the same checks, the same arrays, the same
answers out. So what a batch says of a row is what `predict` says of it, to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from models.rows import RowsInvalid, arrays_of
from models.signature import Arrays, Signature
from serving.domain.batches import ANSWER, ERROR, MODEL, ROW, SCORE, Column
from serving.domain.revisions import Target
from serving.domain.shares import choose

Answer = dict[str, Any] | str
"""What a model says of a row, or why it says nothing."""


@dataclass(frozen=True)
class Ask:
    """Rows of a chunk that one model answers."""

    target: int
    places: list[int]
    """In the chunk."""
    arrays: Arrays

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.places)


@dataclass(frozen=True)
class Chunk:
    """Some rows on their way."""

    first: int
    """The number of the first."""
    rows: list[dict[str, Any]]
    answerers: list[int]
    """Whose each row is, by the place of the target."""
    asks: list[Ask]
    refused: dict[int, str]
    """Why a row, by its place, fits no model."""


def answerer_of(weights: Sequence[int], number: int) -> int:
    """Which of several weighted models a row belongs to: by its number alone, wherever and whenever it is worked on."""
    return choose(weights, str(number))


def chunk_of(lines: Sequence[bytes], first: int, signatures: Sequence[Signature], weights: Sequence[int]) -> Chunk:
    """Lines of JSON as requests to each model."""
    rows = [orjson.loads(line) for line in lines]
    answerers = [answerer_of(weights, first + place) for place in range(len(rows))]
    refused: dict[int, str] = {}
    asks: list[Ask] = []
    for target, signature in enumerate(signatures):
        places = [place for place, answerer in enumerate(answerers) if answerer == target]
        asked = [{name: rows[place][name] for name in signature.names} for place in places]
        if not asked:
            continue
        try:
            asks.append(Ask(target, places, arrays_of(signature, {"rows": asked})))
        except RowsInvalid:
            good = [place for place, row in zip(places, asked, strict=True) if _fits(signature, row, place, refused)]
            asked = [{name: rows[place][name] for name in signature.names} for place in good]
            if asked:
                asks.append(Ask(target, good, arrays_of(signature, {"rows": asked})))
    return Chunk(first, rows, answerers, asks, refused)


def _fits(signature: Signature, row: dict[str, Any], place: int, refused: dict[int, str]) -> bool:
    try:
        arrays_of(signature, {"rows": [row]})
    except RowsInvalid as exc:
        said = [f"{it['pointer'].removeprefix('#/rows/0/')} {it['detail']}" for it in exc.errors[:3]]
        refused[place] = "; ".join(said) or exc.detail
        return False
    return True


def lines_of(
    chunk: Chunk,
    answers: Sequence[Sequence[Answer]],
    columns: Sequence[Column],
    targets: Sequence[Target],
    scored: bool,
) -> tuple[bytes, int]:
    """The rows of the result, and how many of them have no answer. `answers` are those to each ask of the chunk."""
    by_place: dict[int, Answer] = dict(chunk.refused)
    for ask, of_ask in zip(chunk.asks, answers, strict=True):
        by_place.update(zip(ask.places, of_ask, strict=True))
    lines: list[bytes] = []
    refused = 0
    names = [column.name for column in columns]
    for place, row in enumerate(chunk.rows):
        answer = by_place[place]
        line = {ROW: chunk.first + place, **{name: row[name] for name in names}}
        said: dict[str, Any] = {} if isinstance(answer, str) else answer
        error = answer[:1000] if isinstance(answer, str) else None
        refused += error is not None
        line[ANSWER] = said.get("value", said.get("label"))
        if scored:
            line[SCORE] = said.get("score")
        line |= {MODEL: targets[chunk.answerers[place]].reference, ERROR: error}
        lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    return b"".join(lines), refused


def part_of(signature: Signature, ask: Ask, start: int, end: int) -> Ask:
    """Some of the rows of an ask."""
    arrays = {column.name: ask.arrays[column.name][start:end] for column in signature.inputs}
    return Ask(ask.target, ask.places[start:end], arrays)
