"""The rows that a job trains on, as whatever the program works with. A library is imported when it is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from trainyard.runtime.mistakes import NoDataset

SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True)
class Split:
    """The rows of one split, in files that are read when they are asked for."""

    name: str
    files: Sequence[Path]

    def arrow(self, columns: Sequence[str] | None = None) -> Any:
        """A `pyarrow.Table`."""
        names = list(columns) if columns is not None else None
        if all(file.suffix == ".csv" for file in self.files):
            tables = [import_module("pyarrow.csv").read_csv(file) for file in self.files]
            table = import_module("pyarrow").concat_tables(tables)
            return table if names is None else table.select(names)
        parquet = import_module("pyarrow.parquet")
        tables = [parquet.ParquetFile(file).read(columns=names) for file in self.files]
        return import_module("pyarrow").concat_tables(tables)

    def pandas(self, columns: Sequence[str] | None = None) -> Any:
        """A `pandas.DataFrame`."""
        import_module("pandas")  # said by its own name where it is missing
        return self.arrow(columns).to_pandas()

    def numpy(self, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """Of each column a NumPy array; where numbers are missing, NaN."""
        table = self.arrow(columns)
        return {name: table.column(name).to_numpy() for name in table.column_names}

    def torch(self, target: str | None = None, columns: Sequence[str] | None = None) -> "Tensors":
        """All columns that are numbers (or those that are named) as one float32 tensor, and `target` beside it.

        A target of whole numbers becomes int64, which is what losses for classes take.
        """
        torch = import_module("torch")
        numpy = import_module("numpy")
        table = self.arrow()
        arrays = {name: table.column(name).to_numpy() for name in table.column_names}
        if target is not None and target not in arrays:
            raise NoDataset(f"The dataset has no column {target!r}; it has {', '.join(arrays)}.")
        chosen = (
            columns if columns is not None else [n for n in arrays if n != target and arrays[n].dtype.kind in "fiub"]
        )
        if not chosen:
            raise NoDataset("The dataset has no column of numbers.")
        features = torch.from_numpy(numpy.stack([arrays[name].astype("float32") for name in chosen], axis=1))
        if target is None:
            return Tensors(tuple(chosen), features, None)
        wanted = arrays[target]
        return Tensors(tuple(chosen), features, torch.from_numpy(wanted.astype(_target_kind(wanted.dtype.kind))))


@dataclass(frozen=True)
class Tensors:
    """A dataset as torch has it: `data[indices]` is a pair of tensors, also for a `DataLoader`."""

    columns: tuple[str, ...]
    features: Any
    target: Any

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: Any) -> Any:
        return self.features[index] if self.target is None else (self.features[index], self.target[index])


def split_of(splits: Mapping[str, Sequence[Path]], name: str) -> Split:
    """One of them, by its name."""
    if name not in splits:
        known = f"it has {', '.join(sorted(splits))}" if splits else "this run has no dataset"
        raise NoDataset(f"There is no split {name!r}: {known}.")
    return Split(name, tuple(splits[name]))


def splits_in(folder: Path) -> dict[str, list[Path]]:
    """Of a folder: `train.parquet`, `test.csv`, or folders of such files."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        files = sorted(it for it in path.iterdir() if it.suffix in SUFFIXES) if path.is_dir() else [path]
        if files and all(file.suffix in SUFFIXES for file in files):
            found.setdefault(path.stem, []).extend(files)
    return found


def _target_kind(kind: str) -> str:
    if kind in "iub":
        return "int64"
    if kind == "f":
        return "float32"
    raise NoDataset("The target is no column of numbers: make numbers of its values first (`.arrow()`, `.pandas()`).")
