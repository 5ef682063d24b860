"""The two sides of the split in SQL. What it means is said in ingest.domain.splits."""

from ingest.domain.reports import Refused
from ingest.domain.schema import Column, ColumnType
from ingest.domain.settings import DatasetSettings, HashSplit, TimeSplit
from ingest.domain.splits import DIGITS, threshold
from ingest.parser.session import literal, quoted


def held_out(settings: DatasetSettings, columns: list[Column]) -> str:
    """SQL that is true for the rows that are held out."""
    if isinstance(settings.split, TimeSplit):
        return _after_cut(settings.split, columns)
    return _by_hash(settings.split, settings.key, columns)


def _by_hash(split: HashSplit, key: list[str], columns: list[Column]) -> str:
    types = {column.name: column.type for column in columns}
    names = split.by or key or list(types)
    parts = ", ".join([literal(str(split.seed)), *(_part(name, types[name]) for name in names)])
    return f"left(sha256(concat_ws('|', {parts})), {DIGITS}) < {literal(threshold(split.held_out))}"


def _part(name: str, of: ColumnType) -> str:
    text = f"epoch_us({quoted(name)})::VARCHAR" if of is ColumnType.TIMESTAMP else f"{quoted(name)}::VARCHAR"
    return f"coalesce(strlen({text}) || ':' || {text}, '-')"


def _after_cut(split: TimeSplit, columns: list[Column]) -> str:
    of = {column.name: column.type for column in columns}[split.time]
    if of is ColumnType.STRING:
        # ISO dates sort as texts do.
        return f"{quoted(split.time)} >= {literal(split.cut)}"
    if of not in (ColumnType.DATE, ColumnType.TIMESTAMP):
        raise Refused("bad-split", f"The split's column {split.time[:100]!r} is {of.value}, not a date or timestamp.")
    return f"{quoted(split.time)}::TIMESTAMPTZ >= {literal(split.cut)}::TIMESTAMPTZ"
