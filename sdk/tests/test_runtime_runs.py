"""A run: what a program knows and says, on the platform and outside of it."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from trainyard.runtime.mistakes import NoDataset, NotFinite
from trainyard.runtime.runs import METRICS, RUN_FILE, Run, facts_of

TABLE = pa.table({"a": [1.0, 2.0, None], "b": [1, 2, 3], "name": ["x", "y", "z"], "late": [True, False, True]})


def outside(folder: Path, environment: dict[str, str] | None = None, **known: Any) -> Run:
    found = {**(environment or {})}
    return Run(facts_of(found, folder, known.get("parameters", {}), known.get("dataset")), found)


def inside(folder: Path, environment: dict[str, str] | None = None, **known: Any) -> Run:
    """As the runner begins it."""
    parquet.write_table(TABLE, folder / "0.parquet")
    parquet.write_table(TABLE, folder / "1.parquet")
    files = [str(folder / "0.parquet"), str(folder / "1.parquet")]
    dataset = {
        "reference": "flights@3",
        "digest": "sha256:0",
        "columns": [{"name": "a", "type": "number"}],
        "splits": {"train": files, "test": files[:1]},
    }
    document = {
        "job": "j",
        "attempt": 2,
        "seed": 7,
        "parameters": {"lr": 0.5},
        "dataset": dataset,
        "checkpoints": str(folder / "checkpoints"),
        "outputs": str(folder / "outputs"),
        "socket": None,
        **known,
    }
    (folder / "run.json").write_text(json.dumps(document))
    found = {RUN_FILE: str(folder / "run.json"), **(environment or {})}
    return Run(facts_of(found, folder / "elsewhere", {"lr": 0.1, "epochs": 3}, None), found)


def told(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.facts.outputs / METRICS).read_text().splitlines()]


def test_inside_it_knows_what_the_platform_says(tmp_path: Path) -> None:
    run = inside(tmp_path)
    assert run.on_platform
    assert run.parameters == {"lr": 0.5, "epochs": 3}
    assert (run.seed, run.rank, run.world_size, run.splits) == (7, 0, 1, ("test", "train"))
    assert (run.facts.attempt, run.facts.checkpoints) == (2, tmp_path / "checkpoints")
    assert run.facts.dataset is not None
    assert run.facts.dataset["reference"] == "flights@3"


def test_inside_without_a_dataset_there_are_no_rows(tmp_path: Path) -> None:
    run = inside(tmp_path, dataset=None)
    assert run.splits == ()
    with pytest.raises(NoDataset, match="this run has no dataset"):
        run.dataset()


def test_outside_it_writes_beside_the_program(tmp_path: Path) -> None:
    run = outside(tmp_path, {"TRAINYARD_PARAMETERS": '{"lr": 2, "seed": 5}'}, parameters={"lr": 1, "epochs": 3})
    assert not run.on_platform
    assert run.parameters == {"lr": 2, "epochs": 3, "seed": 5}
    assert run.seed == 5
    run.log({"loss": 0.5}, step=3)
    run.progress(3, 10)
    run.checkpoint.save({"w": 1}, step=3)
    run.close()
    entries = told(run)
    assert [entry["type"] for entry in entries] == ["metrics", "progress", "checkpoint"]
    assert (entries[0]["step"], entries[0]["values"]) == (3, {"loss": 0.5})
    assert (entries[1]["done"], entries[1]["total"]) == (3, 10)
    assert (entries[2]["step"], entries[2]["path"]) == (3, "000000000003")
    assert run.facts.outputs == tmp_path / "trainyard-run" / "outputs"


def test_progress_is_told_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    run = outside(tmp_path)
    for done in range(1, 1001):
        run.progress(done, 1000)
    told_of = [entry["done"] for entry in told(run)]
    assert (told_of[0], told_of[-1]) == (1, 1000)
    assert len(told_of) < 50


def test_of_several_processes_the_first_tells(tmp_path: Path) -> None:
    run = outside(tmp_path, {"WORLD_SIZE": "2", "RANK": "1"})
    run.log({"loss": 1})
    run.progress(1, 2)
    run.close()
    assert not (run.facts.outputs / METRICS).exists()
    assert run.order(10, batch=5).rank == 1


def test_a_number_that_is_none_is_told_and_ends_the_training(tmp_path: Path) -> None:
    run = outside(tmp_path)
    with pytest.raises(NotFinite, match="loss is not a finite number at step 4: nan"):
        run.log({"accuracy": 1, "loss": math.nan}, step=4)
    assert math.isnan(told(run)[0]["values"]["loss"])


def test_rows_are_a_table(tmp_path: Path) -> None:
    run = inside(tmp_path)
    assert run.dataset("train").arrow().num_rows == 6
    assert run.dataset("test").arrow(["b", "a"]).column_names == ["b", "a"]
    arrays = run.dataset("test").numpy()
    assert arrays["b"].tolist() == [1, 2, 3]
    assert math.isnan(arrays["a"][2])


def test_pandas_is_named_where_it_is_missing(tmp_path: Path) -> None:
    if _is_there("pandas"):
        assert len(inside(tmp_path).dataset("test").pandas()) == 3
        return
    with pytest.raises(ModuleNotFoundError, match="pandas"):
        inside(tmp_path).dataset("test").pandas()


def test_a_split_that_is_not_there_is_said_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(NoDataset, match="no split 'valid': it has test, train"):
        inside(tmp_path).dataset("valid")


def test_outside_a_folder_is_the_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    parquet.write_table(TABLE, folder / "train" / "0.parquet")
    parquet.write_table(TABLE, folder / "train" / "1.parquet")
    csv.write_csv(TABLE.select(["b", "name"]), folder / "test.csv")
    (folder / "README.md").write_text("no rows")
    run = outside(tmp_path, dataset=folder)
    assert run.splits == ("test", "train")
    assert run.dataset("train").arrow().num_rows == 6
    assert run.dataset("test").arrow(["name"]).to_pylist()[0] == {"name": "x"}
    assert outside(tmp_path, {"TRAINYARD_DATASET": str(folder)}).splits == ("test", "train")
    assert outside(tmp_path, dataset=tmp_path / "nowhere").splits == ()


def test_nothing_heavy_is_imported_before_it_is_asked_for(tmp_path: Path) -> None:
    program = (
        "import sys; from trainyard import runtime; run = runtime.current(parameters={'lr': 1}); "
        "assert runtime.current() is run; run.log({'loss': 1.0}); "
        "print(sorted({'torch', 'numpy', 'pyarrow', 'httpx2', 'pandas', 'typer'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert len((tmp_path / "trainyard-run" / "outputs" / METRICS).read_text().splitlines()) == 1


def _is_there(name: str) -> bool:
    try:
        __import__(name)
    except ModuleNotFoundError:
        return False
    return True
