"""Programs of torch.export: what they answer, against torch itself, and what in them is refused."""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from models.runners import ModelUnloadable
from models.signature import Field, ModelOutputInvalid, Signature
from models.tensor_signature import TensorSignature, TensorSpec
from models.torch_files import harmless
from models.torch_models import TorchProgram

SEED = np.random.default_rng(7)


def program(**changes: Any) -> dict[str, Any]:
    """The graph of an archive, with what torch writes into it."""
    sizes = [{"as_expr": {"expr_str": "Symbol('s77', positive=True, integer=True)", "hint": {"as_int": 2}}}]
    node = {
        "target": "torch.ops.aten.relu.default",
        "inputs": [{"name": "self", "arg": {"as_tensor": {"name": "x"}}, "kind": 1}],
        "metadata": {"stack_trace": 'File "x.py", line 1'},
    }
    graph = {"nodes": [{**node, **changes.pop("node", {})}], "tensor_values": {"x": {"sizes": sizes}}}
    spec = '[1, {"type": "builtins.tuple", "context": "null", "children_spec": []}]'
    return {"graph_module": {"graph": graph}, "guards_code": ["exit()"], "in_spec": spec, **changes}


def archived(
    document: Any, *, compression: int = zipfile.ZIP_STORED, files: Mapping[str, bytes] | None = None
) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/models/model.json", json.dumps(document))
        for name, content in (files or {}).items():
            archive.writestr(f"m/{name}", content)
    return made.getvalue()


def test_of_a_program_only_what_is_harmless_is_left() -> None:
    config = json.dumps({"config": {"w": {"path_name": "weight_0", "use_pickle": False}}}).encode()
    files = {
        "data/weights/weight_0": b"1234",
        "data/weights/model_weights_config.json": config,
        "data/sample_inputs/model.pt": b"a pickle",
        "data/aotinductor/model/x.so": b"code",
        "extra/x": b"",
    }
    with zipfile.ZipFile(harmless(archived(program(), files=files))) as archive:
        assert set(archive.namelist()) == {
            *("m/archive_format", "m/models/model.json", "m/data/sample_inputs/model.pt"),
            *("m/data/weights/weight_0", "m/data/weights/model_weights_config.json"),
        }
        assert archive.read("m/data/sample_inputs/model.pt") == b""
        document = json.loads(archive.read("m/models/model.json"))
    assert document["guards_code"] == []
    assert document["graph_module"]["graph"]["nodes"][0]["metadata"] == {}


SIZES = (
    "s0 + 1",
    "2*s77",
    "-u3 // 4",
    "Max(1, Symbol('s0', integer=True))",
    "Add(Integer(1), Mul(Integer(2), Symbol('u0')))",
)


def test_sizes_are_sums_and_products_of_symbols() -> None:
    for size in SIZES:
        harmless(archived(program(size={"expr_str": size})))


@pytest.mark.parametrize(
    "document",
    [
        *(
            program(node={"target": target})
            for target in (
                *("torch.os.system", "torch.serialization.os.system", "torch.load", "torch.hub.load"),
                *("torch.ops.aten.from_file.default", "torch.ops.aten.__class__.mro", "torch.ops.mine.x.default"),
                *("torch.ops.aten.add.__globals__", "_operator.attrgetter", "#x:y", "math.exec", "exec", ""),
            )
        ),
        program(node={"target": 7}),
        program(x={"as_operator": "torch.os.system"}),
        *(
            program(size={"expr_str": text})
            for text in (
                *("__import__('os').system('id')", "Symbol('x')", "s0.__class__", "eval('1')", "s0 if s1 else s2"),
                *("lambda: 1", "[s0]", "(", "open('x')", "Symbol('s0', cls=1)", "s0 ** 99", "s0" * 2000),
            )
        ),
        program(size={"expr_str": 7}),
        program(x={"as_custom_obj": {"name": "x"}}),
        program(x={"name": "x): __import__('os'); (y"}),
        program(x={"a\nb": 1}),
        program(in_spec='[1, {"type": "x()"}]'),
    ],
)
def test_what_could_run_code_is_refused(document: Any) -> None:
    with pytest.raises(ModelUnloadable):
        harmless(archived(document))


def test_an_archive_is_as_torch_writes_it() -> None:
    good = archived(program())
    pickled = json.dumps({"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}).encode()
    broken = {"data/constants/model_constants_config.json": b"{}"}
    for content in (
        b"",
        b"\x80\x04.",
        b"PK\x03\x04" + b"\0" * 100,
        good[:-30],
        archived(program(), compression=zipfile.ZIP_DEFLATED),
        archived(program(), files={"data/weights/model_weights_config.json": pickled}),
        archived(program(), files=broken),
        good.replace(b"m/models/model.json", b"m/models/other.json"),
    ):
        with pytest.raises(ModelUnloadable):
            harmless(content)


def test_torch_answers_as_it_does_itself() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: its programs are not tried")

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3))
            self.register_buffer("mean", torch.ones(4))

        def forward(self, x: Any, scale: Any) -> Any:
            logits = self.layers((x - self.mean) * scale.unsqueeze(1))
            return {"p": torch.softmax(logits, 1), "best": logits.argmax(1)}

    batch = torch.export.Dim("batch")
    given = torch.randn(2, 4), torch.ones(2)
    exported = torch.export.export(Net().eval(), given, dynamic_shapes=({0: batch}, {0: batch}))
    content = io.BytesIO()
    torch.export.save(exported, content)
    inputs = TensorSpec("x", "FP32", (-1, 4)), TensorSpec("scale", "FP32", (-1,))
    outputs = TensorSpec("best", "INT64", (-1,)), TensorSpec("p", "FP32", (-1, 3))
    model = TorchProgram(content.getvalue(), TensorSignature(inputs, outputs))
    x, scale = SEED.normal(size=(5, 4)).astype(np.float32), np.arange(5, dtype=np.float32)
    expected = exported.module()(torch.from_numpy(x), torch.from_numpy(scale))
    x.flags.writeable = False
    found = model.predict({"x": x, "scale": scale}).tensors
    assert found is not None
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.detach().numpy())
    with pytest.raises(ModelUnloadable):
        model.predict({"x": x, "scale": scale[:4]})
    for wrong in (
        TensorSignature(inputs[:1], outputs),
        TensorSignature(inputs, (*outputs, TensorSpec("z", "BOOL", ()))),
    ):
        with pytest.raises((ModelUnloadable, ModelOutputInvalid)):
            TorchProgram(content.getvalue(), wrong).predict({"x": x, "scale": scale})
    for signature in (
        Signature.of([Field("a", "number")], "regression"),
        TensorSignature((TensorSpec("x", "BYTES", (-1,)),), outputs),
    ):
        with pytest.raises(ModelUnloadable):
            TorchProgram(content.getvalue(), signature)
    with pytest.raises(ModelUnloadable):
        TorchProgram(archived(program()), TensorSignature(inputs, outputs))
