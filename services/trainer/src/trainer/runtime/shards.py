"""Parquet shards become input arrays and a target, column by column and without pandas."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.signature import MISSING_TIME, Arrays
from trainer.domain.attempts import Shard, TrainingSpec
from trainer.runtime.mistakes import UserMistake


@dataclass(frozen=True)
class Split:
    """The rows of one split, as columns; the target as Arrow has it."""

    arrays: Arrays
    target: pa.Array
    baseline: list[NDArray[Any]]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.target)

    def where(self, chosen: NDArray[Any]) -> "Split":
        """These rows only: a mask, or indices."""
        arrays = {name: array[chosen] for name, array in self.arrays.items()}
        places = chosen.nonzero()[0] if chosen.dtype == bool else chosen
        return Split(arrays, self.target.take(pa.array(places)), [column[chosen] for column in self.baseline])


def types_of(folder: Path, shards: Sequence[Shard]) -> dict[str, str]:
    """The columns of a dataset version with the signature's types; of types that no model takes, `unsupported`."""
    if not any(shard.split == "train" and shard.rows for shard in shards):
        raise UserMistake("The dataset version has no rows to train on.", "See its rejects, and its split.")
    held_out = {shard.digest for shard in shards if shard.split == "held_out"}
    if any(shard.split == "train" and shard.digest in held_out for shard in shards):
        raise ValueError("A shard is both in the training split and held out.")  # ours to answer for, not the user's
    schema = pq.read_schema(folder / shards[0].path)
    return {column.name: _type_of(column.type) for column in schema}


def features_of(spec: TrainingSpec, types: dict[str, str]) -> dict[str, str]:
    """The features of a job with their types, in order; or what is wrong with the names that it gives."""
    known = f"Its columns are {', '.join(types)}."
    if spec.target not in types:
        raise UserMistake(f"The dataset has no column {spec.target!r} to be the target.", known)
    for name in (*(spec.features or ()), *(spec.baseline or ())):
        if name not in types:
            raise UserMistake(f"The dataset has no column {name!r}.", known)
        if name == spec.target:
            raise UserMistake(f"The target {name!r} cannot tell itself.", "Take it out of features and baseline.")
    if spec.features is None:
        chosen = [name for name, kind in types.items() if name != spec.target and kind != "unsupported"]
    else:
        chosen = list(dict.fromkeys(spec.features))
    for name in chosen:
        if types[name] == "unsupported":
            raise UserMistake(f"The column {name!r} has a type that no model takes.", "Leave it out of the features.")
    if not chosen:
        raise UserMistake("There is no column to learn from.", "Name features, or ingest more than the target.")
    return {name: types[name] for name in chosen}


def read_split(
    folder: Path, shards: Sequence[Shard], split: str, features: dict[str, str], spec: TrainingSpec
) -> Split:
    """All rows of a split."""
    baseline = spec.baseline or ()
    wanted = list(dict.fromkeys((*features, spec.target, *baseline)))
    tables = [pq.read_table(folder / shard.path, columns=wanted) for shard in shards if shard.split == split]
    if not any(table.num_rows for table in tables):
        hint = "Choose a split that holds rows out, such as {'held_out': 0.2}."
        raise UserMistake(f"The dataset version has no rows in its {split} split.", hint)
    table = pa.concat_tables(tables)
    return Split(
        arrays={name: _array(name, kind, table.column(name)) for name, kind in features.items()},
        target=table.column(spec.target).combine_chunks(),
        baseline=[_array(name, _type_of(table.schema.field(name).type), table.column(name))[:, 0] for name in baseline],
    )


def _type_of(kind: pa.DataType) -> str:
    checks = (
        ("boolean", pa.types.is_boolean),
        ("integer", pa.types.is_integer),
        ("number", lambda each: pa.types.is_floating(each) or pa.types.is_decimal(each)),
        ("string", lambda each: pa.types.is_string(each) or pa.types.is_large_string(each)),
        ("timestamp", lambda each: pa.types.is_timestamp(each) or pa.types.is_date(each)),
    )
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return next((name for name, check in checks if check(kind)), "unsupported")


def _array(name: str, kind: str, column: pa.ChunkedArray) -> NDArray[Any]:
    """As `models.signature` wants it: [rows, 1], float32 or int64 or objects, with the missing values it has."""
    array: NDArray[Any]
    if kind in ("string", "unsupported"):  # unsupported: a baseline may group by anything that has a text
        array = column.cast(pa.string()).fill_null("").to_numpy().astype(object)
    elif kind == "timestamp":
        times = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False)
        array = times.cast(pa.int64()).fill_null(MISSING_TIME).to_numpy()
    else:
        wide = pc.cast(column.cast(pa.int8()) if kind == "boolean" else column, pa.float64(), safe=False).to_numpy()
        with np.errstate(over="ignore"):
            array = wide.astype(np.float32)
        if np.isinf(array).any():
            hint = "A range check in the dataset's settings can quarantine such rows."
            raise UserMistake(f"The column {name!r} has numbers that float32 cannot hold.", hint)
    return array.reshape(-1, 1)
