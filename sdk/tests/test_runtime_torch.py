"""For programs that use torch: its tensors, its models, its random numbers, and a training that goes on by itself."""

import io
import json
import random
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from pyarrow import parquet

sys.path.insert(0, str(Path(__file__).parent))  # for `torch_here`

import torch_here

from trainyard.runtime import states
from trainyard.runtime.datasets import Split
from trainyard.runtime.mistakes import CannotResume, CannotSave, NoDataset, UnknownModel
from trainyard.runtime.runs import Run, facts_of

torch_here.need()
torch: Any = import_module("torch")
tensors: Any = import_module("trainyard.runtime.tensors")
KINDS = ["float64", "float32", "float16", "bfloat16", "int64", "int8", "uint8", "bool", "complex64", "float8_e5m2"]


@pytest.fixture(autouse=True)
def _exactness() -> Iterator[None]:
    """As it was."""
    yield
    torch.use_deterministic_algorithms(False)


def run_in(folder: Path, **environment: str) -> Run:
    return Run(facts_of(environment, folder, {}, None), environment)


def again(tree: Any) -> Any:
    return states.decoded(io.BytesIO(b"".join(states.encoded(tree))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_comes_back_to_the_last_bit(kind: str) -> None:
    tensor = torch.arange(-3, 3).to(getattr(torch, kind)).reshape(2, 3).t()
    found = again({"w": tensor})["w"]
    assert found.dtype is tensor.dtype
    assert b"".join(states.encoded([found])) == b"".join(states.encoded([tensor]))
    assert found.tolist() == tensor.tolist()


def test_also_one_number_none_and_a_parameter() -> None:
    parts = [torch.tensor(2.5), torch.empty(0, 3), torch.nn.Parameter(torch.ones(2)), torch.ones(4)[::2]]
    found = again(parts)
    assert [tuple(it.shape) for it in found] == [(), (0, 3), (2,), (2,)]
    assert found[0].item() == 2.5
    found[3][0] = 7  # it is a tensor of its own, and may be written
    assert again(torch.get_rng_state()).equal(torch.get_rng_state())


def test_what_is_no_plain_tensor_is_refused() -> None:
    with pytest.raises(CannotSave, match=r"torch\.Tensor"):
        again(torch.ones(2, 2).to_sparse())


def test_random_numbers_go_on_where_they_were() -> None:
    state = again(tensors.random_states())
    expected = (random.random(), float(np.random.random()), torch.rand(3).tolist())
    tensors.set_random_states(state)
    assert (random.random(), float(np.random.random()), torch.rand(3).tolist()) == expected


def test_exact_seeds_each_rank_differently_and_the_same_again(tmp_path: Path) -> None:
    found = []
    for rank in ("0", "1", "0"):
        run_in(tmp_path, RANK=rank, WORLD_SIZE="2").torch.exact()
        found.append((random.random(), float(np.random.random()), torch.rand(1).item()))
    assert found[0] == found[2] != found[1]
    assert torch.are_deterministic_algorithms_enabled()


def test_one_process_has_nobody_to_meet(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    model = torch.nn.Linear(2, 1)
    run.torch.join()
    assert run.torch.parallel(model) is model
    run.torch.leave()


def training(run: Run, steps: int | None = 3) -> Iterator[tuple[Any, Any]]:
    """A training of 2 epochs of 5 steps; gives each batch, and the model after it."""
    run.torch.exact()
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    rows = torch.arange(30.0).reshape(10, 3) / 30
    order = run.order(10, batch=2, epochs=2)
    for batch in run.torch.training(order, steps=steps, seconds=None, keep=9, model=model, optimizer=optimizer):
        optimizer.zero_grad()
        (model(rows[batch.indices]).square().mean() + torch.rand(1).sum() * model.bias.sum()).backward()
        optimizer.step()
        yield batch, model


def weights(model: Any) -> Any:
    return {name: tensor.tolist() for name, tensor in model.state_dict().items()}


def test_it_goes_on_after_the_last_checkpoint_and_ends_the_same(tmp_path: Path) -> None:
    unbroken = list(training(run_in(tmp_path / "unbroken")))
    begun = training(run_in(tmp_path / "broken"))
    for _ in range(8):
        next(begun)
    del begun
    rest = list(training(run_in(tmp_path / "broken")))
    assert [batch.step for batch, _ in rest] == [7, 8, 9, 10]
    assert weights(rest[-1][1]) == weights(unbroken[-1][1])
    saved = [int(path.name) for path in (tmp_path / "unbroken" / "trainyard-run" / "checkpoints").iterdir()]
    assert sorted(saved) == [3, 6, 9, 10]


def test_what_is_over_is_not_done_again(tmp_path: Path) -> None:
    (*_, (_, model)) = training(run_in(tmp_path))
    assert list(training(run_in(tmp_path))) == []
    assert model is not None


def test_another_number_of_processes_draws_other_random_numbers(tmp_path: Path) -> None:
    """Those that were saved are of ranks that are no more."""
    list(training(run_in(tmp_path)))
    run = run_in(tmp_path)
    found = run.checkpoint.restore()
    assert found is not None
    assert found.local.keys() == {"python", "numpy", "torch", "cuda"}
    first = tensors.seeded(1, 0, 10), torch.rand(1).item()
    second = tensors.seeded(1, 0, 11), torch.rand(1).item()
    assert first != second


def test_a_program_with_other_parts_is_told_which(tmp_path: Path) -> None:
    list(training(run_in(tmp_path)))
    run = run_in(tmp_path)
    other = run.torch.training(run.order(10, batch=2, epochs=2), model=torch.nn.Linear(3, 1))
    with pytest.raises(CannotResume, match="has model, optimizer; the program has model"):
        next(iter(other))


def digits(folder: Path) -> Split:
    table = pa.table({"a": [1.0, None], "b": [1, 2], "name": ["x", "y"], "late": [True, False], "c": [0.5, 1.5]})
    parquet.write_table(table, folder / "0.parquet")
    return Split("train", [folder / "0.parquet"])


def test_rows_are_tensors(tmp_path: Path) -> None:
    data = digits(tmp_path).torch(target="b")
    assert data.columns == ("a", "late", "c")
    assert len(data) == 2
    features, target = data[[1, 0]]
    assert (features.dtype, target.dtype, target.tolist()) == (torch.float32, torch.int64, [2, 1])
    assert features[1].tolist() == [1.0, 1.0, 0.5]
    assert torch.isnan(features[0, 0])
    assert digits(tmp_path).torch(target="c", columns=["b"]).target.dtype is torch.float32
    assert digits(tmp_path).torch()[0].tolist() == [1.0, 1.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"target": "d"}, "no column 'd'; it has a, b"),
        ({"target": "name"}, "no column of numbers: make numbers"),
        ({"columns": []}, "no column of numbers"),
    ],
)
def test_what_are_no_tensors_is_said(tmp_path: Path, known: dict[str, Any], message: str) -> None:
    with pytest.raises(NoDataset, match=message):
        digits(tmp_path).torch(**known)


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5), torch.nn.ReLU())


def document_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return found


def test_a_module_becomes_onnx_that_answers_the_same(tmp_path: Path) -> None:
    model = network().train()
    rows = torch.rand(5, 4)
    folder = run_in(tmp_path).save_model(model, example=rows[:2], inputs=["rows"])
    assert model.training
    document = document_of(folder)
    assert document["signature"] == {
        "task": "tensors",
        "inputs": [{"name": "rows", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
        "classes": [],
    }
    assert document["input_example"] == [{"rows": row} for row in rows[:2].tolist()]
    (found,) = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"rows": rows.numpy()})
    assert np.allclose(found, model.eval()(rows).detach().numpy(), atol=1e-6)


def test_or_a_program_of_torch(tmp_path: Path) -> None:
    rows = torch.rand(5, 4)
    folder = run_in(tmp_path).save_model(network(), example=rows[:2], format="pt2")
    assert document_of(folder)["signature"]["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    program = torch.export.load(folder / "model.pt2").module()
    assert program(rows).shape == (5, 3)


def test_or_weights(tmp_path: Path) -> None:
    known = {"format": "safetensors", "architecture": {"name": "mlp", "sizes": [4, 3]}}
    folder = run_in(tmp_path).save_model(network(), example=torch.rand(2, 4), **known)
    content = (folder / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header) == ["0.weight", "0.bias"]
    assert document_of(folder)["parameters"] == {"architecture": {"name": "mlp", "sizes": [4, 3]}}
    assert document_of(run_in(tmp_path).save_model(network(), format="safetensors"))["signature"] is None


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({}, r"give rows that it takes: example=x\[:2\]"),
        ({"format": "pickle"}, "and not as pickle"),
        ({"format": "pt2", "example": torch.rand(2, 4, dtype=torch.complex64)}, "does not know"),
    ],
)
def test_a_module_that_cannot_be_saved_is_refused(tmp_path: Path, known: dict[str, Any], message: str) -> None:
    model = torch.nn.Identity()
    with pytest.raises(UnknownModel, match=message):
        run_in(tmp_path).save_model(model, **known)
