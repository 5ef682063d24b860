"""The model that a training made, as files and what is to be known of them: whole in its folder, or not there.

outputs/model/model.json     formats (format and path of each file), signature, metrics, parameters, task, example
outputs/model/model.onnx     and so on
"""

import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard import onnx_files
from trainyard.model_files import FORMATS, UNSAFE
from trainyard.runtime import states
from trainyard.runtime.checkpoints import Disk
from trainyard.runtime.mistakes import UnknownModel

if TYPE_CHECKING:
    from trainyard.runtime.runs import Run

FOLDER = "model"
DOCUMENT = "model.json"
EXAMPLES = 5
OPSET = 17
MOST_FILES = 8
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
Signature = Mapping[str, Any]


def save(
    run: "Run",
    model: Any,
    *,
    example: Any = None,
    format: str | None = None,
    signature: Signature | None = None,
    metrics: Mapping[str, float] | None = None,
    parameters: Mapping[str, Any] | None = None,
    architecture: Mapping[str, Any] | None = None,
    task: str | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> Path:
    """Hand a model over; of several processes rank 0 does. Answers its folder.

    model: a torch module, a scikit-learn estimator, an ONNX model, a file, a folder, or files by their names.
    example: rows that it takes: a tensor or array, or several of them. torch and scikit-learn need it for ONNX.
    format: `onnx` (what torch modules and scikit-learn become unless something else is said), `pt2`, `safetensors`,
        `skops`; of a file whose name does not say it, any other.
    signature: what it takes and gives. Of ONNX, and of torch modules with an example, it is found out.
    architecture: of safetensors, what the weights are of (docs/serving-formats.md).

    Raises:
        UnknownModel: this is no model that can be saved, or something has to be said of it first.
    """
    folder = run.facts.outputs / FOLDER
    if run.rank != 0:
        return folder
    staged = folder.with_name(f".{FOLDER}-{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        names = (list(inputs or ()), list(outputs or ()))
        parts, found = _written(model, staged, format, example, names)
        document = {
            "formats": parts,
            "signature": dict(signature) if signature is not None else found,
            "input_example": _rows(example, signature or found),
            "metrics": _finite(metrics or {}),
            "parameters": {
                **run.parameters,
                **(parameters or {}),
                **({"architecture": dict(architecture)} if architecture else {}),
            },
            "task": task or (signature or found or {}).get("task"),
        }
        _publish(staged, folder, document)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder


def _publish(staged: Path, folder: Path, document: Mapping[str, Any]) -> None:
    """By renaming what is on the disk. A model that was saved before makes room."""
    (staged / DOCUMENT).write_text(json.dumps(document, indent=1, allow_nan=False, default=_listed))
    disk = Disk()
    for path in sorted(staged.iterdir()):
        with path.open("rb+") as file:
            disk.sync(file)
    disk.sync_folder(staged)
    if folder.exists():
        shutil.rmtree(folder)
    disk.rename(staged, folder)
    disk.sync_folder(folder.parent)


Parts = list[dict[str, str]]
Names = tuple[list[str], list[str]]


def _written(
    model: Any, folder: Path, format: str | None, example: Any, names: Names
) -> tuple[Parts, dict[str, Any] | None]:
    """The files, and the signature as far as it can be found out."""
    if isinstance(model, str | Path):
        return _copied(Path(model), folder, format)
    if isinstance(model, Mapping) and all(isinstance(it, str | Path) for it in model.values()):
        return _named(model, folder, format)
    if hasattr(model, "SerializeToString") and hasattr(model, "graph"):
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        return _onnx(folder)
    if hasattr(model, "state_dict") and hasattr(model, "forward"):
        return _torch(model, folder, format or "onnx", example, names)
    if hasattr(model, "predict") and hasattr(model, "get_params"):
        return _sklearn(model, folder, format or "onnx", example)
    raise UnknownModel(
        f"A {type(model).__module__}.{type(model).__qualname__} is no torch module, no scikit-learn estimator and no "
        "ONNX model. Write it into a file in a format that runs no code, and give the file."
    )


def _copied(path: Path, folder: Path, format: str | None) -> tuple[Parts, dict[str, Any] | None]:
    if not path.exists():
        raise UnknownModel(f"There is no file {path}.")
    if path.is_dir():
        files = {it.name: it for it in sorted(path.iterdir()) if not it.is_symlink()}
        return _named(files, folder, format)
    return _named({path.name: path}, folder, format)


def _named(files: Mapping[str, Any], folder: Path, format: str | None) -> tuple[Parts, dict[str, Any] | None]:
    parts = []
    if not 1 <= len(files) <= MOST_FILES or not all(Path(source).is_file() for source in files.values()):
        raise UnknownModel(
            f"A model has 1 to {MOST_FILES} files, and no folders in its folder: put more into an archive."
        )
    for name, source in files.items():
        if not PLAIN.fullmatch(name) or name == DOCUMENT:
            raise UnknownModel(f"{name!r} is no name for a file of a model: letters, digits, '.', '_' and '-'.")
        suffix = Path(name).suffix.lower()
        kind = format or ("files" if suffix in UNSAFE else FORMATS.get(suffix, "files"))
        shutil.copyfile(source, folder / name)
        parts.append({"format": kind, "path": name})
    first = next((part for part in parts if part["format"] == "onnx"), None)
    return parts, onnx_files.signature_of(folder / first["path"]) if first else None


def _onnx(folder: Path) -> tuple[Parts, dict[str, Any]]:
    return [{"format": "onnx", "path": "model.onnx"}], onnx_files.signature_of(folder / "model.onnx")


def _torch(model: Any, folder: Path, format: str, example: Any, names: Names) -> tuple[Parts, dict[str, Any] | None]:
    torch = import_module("torch")
    model = getattr(model, "module", model) if type(model).__name__ == "DistributedDataParallel" else model
    given = tuple(example) if isinstance(example, tuple | list) else (example,)
    was = model.training
    model.eval()
    try:
        match format:
            case "safetensors":
                with (folder / "model.safetensors").open("wb") as file:
                    for piece in states.of_tensors(model.state_dict()):
                        file.write(piece)
                return [{"format": format, "path": "model.safetensors"}], _described(model, given, names)
            case "onnx" | "pt2" if example is None:
                raise UnknownModel("To export a torch module, give rows that it takes: example=x[:2].")
            case "onnx":
                _export_onnx(torch, model, given, folder / "model.onnx", names)
                return _onnx(folder)
            case "pt2":
                rows = tuple({0: torch.export.Dim.AUTO} for _ in given)
                program = torch.export.export(model, given, dynamic_shapes=rows)
                torch.export.save(program, folder / "model.pt2")
                return [{"format": format, "path": "model.pt2"}], _described(model, given, names)
    finally:
        model.train(was)
    raise UnknownModel(f"A torch module is saved as onnx, pt2 or safetensors, and not as {format}.")


def _export_onnx(torch: Any, model: Any, given: tuple[Any, ...], path: Path, names: Names) -> None:
    inputs, outputs = names
    taken = inputs or _letters("x", len(given))
    with torch.no_grad():
        made = outputs or _letters("y", len(_several(model(*given))))
    with warnings.catch_warnings():
        # The exporter that is to follow needs a package more, and writes graphs that say less of their sizes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            given,
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=taken,
            output_names=made,
            dynamic_axes={name: {0: "rows"} for name in (*taken, *made)},
        )


def _described(model: Any, given: tuple[Any, ...], names: Names) -> dict[str, Any] | None:
    """The signature of a torch module, from what it answers to the example."""
    if given == (None,):
        return None
    with import_module("torch").no_grad():
        answers = _several(model(*given))
    taken = names[0] or _letters("x", len(given))
    made = names[1] or _letters("y", len(answers))
    return {
        "task": "tensors",
        "inputs": [_tensor(name, value) for name, value in zip(taken, given, strict=True)],
        "outputs": [_tensor(name, value) for name, value in zip(made, answers, strict=True)],
        "classes": [],
    }


def _tensor(name: str, value: Any) -> dict[str, Any]:
    kind = states.KINDS[str(value.dtype).removeprefix("torch.")]
    if kind not in DATATYPES:
        raise UnknownModel(f"{name!r} is a tensor of {value.dtype}, which the inference protocol does not know.")
    return {"name": name, "datatype": DATATYPES[kind], "shape": [-1, *value.shape[1:]]}


DATATYPES = {
    **{f"F{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    "BOOL": "BOOL",
}


def _sklearn(model: Any, folder: Path, format: str, example: Any) -> tuple[Parts, dict[str, Any] | None]:
    match format:
        case "skops":
            import_module("skops.io").dump(model, folder / "model.skops")
            return [{"format": format, "path": "model.skops"}], None
        case "onnx" if example is not None:
            classifies = hasattr(model, "classes_")
            made = import_module("skl2onnx").to_onnx(
                model,
                example[:1],
                options={"zipmap": False} if classifies else None,
                target_opset=OPSET,
            )
            (folder / "model.onnx").write_bytes(made.SerializeToString())
            return _onnx(folder)
    raise UnknownModel(
        "A scikit-learn estimator is saved as onnx, with rows that it takes (example=x[:2]), or as skops."
    )


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _letters(letter: str, count: int) -> list[str]:
    return [letter] if count == 1 else [f"{letter}{number}" for number in range(count)]


def _rows(example: Any, signature: Signature | None) -> list[Any] | None:
    """Some rows of the example, by the names of the inputs."""
    names = [it["name"] for it in (signature or {}).get("inputs", ())]
    if example is None or not names:
        return None
    columns = list(example) if isinstance(example, tuple | list) else [example]
    if len(columns) != len(names) or not all(hasattr(it, "tolist") for it in columns):
        return None
    values = [column[:EXAMPLES].tolist() for column in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    values = {name: float(value) for name, value in metrics.items()}
    if astray := [name for name, value in values.items() if not math.isfinite(value)]:
        raise UnknownModel(f"A model whose {astray[0]} is not a finite number is not handed over.")
    return values


def _listed(value: Any) -> Any:
    """Numbers of NumPy and torch as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
