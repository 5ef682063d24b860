"""Programs of torch.export (.pt2) without what could run code: a new archive, of what is known to be harmless.

`torch.export.load` unpickles what the archive calls a pickle, evaluates the sizes as Python, and finds an operator by
walking from `torch` along whatever path is written there. So nothing is handed to it but the graph, whose operators
and sizes are checked here one by one, and weights that are raw bytes. Examples, compiled code, traces and guards are
left behind, for none of them is needed to answer.
"""

import ast
import io
import json
import re
import zipfile
from typing import Any

from models.runners import ModelUnloadable

MAX_ENTRIES = 100_000
MAX_JSON = 64 << 20
MAX_EXPRESSION = 2000
GRAPH = "models/model.json"
EXAMPLES = "data/sample_inputs/model.pt"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
KEPT = re.compile(
    r"archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id|models/model\.json"
    r"|data/weights/(weight_[0-9]+|model_weights_config\.json)|data/constants/(tensor_[0-9]+|model_constants_config\.json)"
)
OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file)_?[a-z0-9]+(_[a-z0-9]+)*_?\.[A-Za-z0-9]+(_[A-Za-z0-9]+)*"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|getitem|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc)|torch\.sym_(max|min|int|float|not|ite|sum)"
)
TAME = re.compile(r"[A-Za-z0-9_.+<> /-]*")
NAME = re.compile(r"[su][0-9]{1,9}")
CALLS = frozenset(
    {"Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv"}
    | {"CeilDiv", "CleanDiv", "IntTrueDiv", "StrictGreaterThan", "GreaterThan", "StrictLessThan", "LessThan"}
    | {"Equality", "Unequality", "And", "Or", "Not"}
)
KEYWORDS = frozenset({"positive", "integer", "nonnegative", "precision", "evaluate"})


def harmless(content: bytes) -> io.BytesIO:
    """The archive again, with nothing in it that could run code.

    Raises:
        ModelUnloadable: it is no such archive, or cannot do without.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _rebuilt(archive, len(content))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, KeyError, RecursionError, EOFError) as error:
        raise ModelUnloadable("The file is not a program of torch.export, or is damaged.") from error


def _rebuilt(archive: zipfile.ZipFile, size: int) -> io.BytesIO:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if not 0 < len(entries) <= MAX_ENTRIES or len(set(names)) != len(names):
        raise ModelUnloadable("The archive has no entries, too many, or one of them twice.")
    if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
        raise ModelUnloadable("The archive is compressed, which torch.export.save leaves alone.")
    root = names[0].partition("/")[0]
    if f"{root}/{GRAPH}" not in names:
        raise ModelUnloadable(f"The archive has no {GRAPH}: save it with torch.export.save of torch 2.8 or later.")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as out:
        for name in names:
            inside = name.removeprefix(f"{root}/")
            if KEPT.fullmatch(inside):
                out.writestr(name, _checked(inside, archive.read(name)))
        out.writestr(f"{root}/{EXAMPLES}", b"")  # torch asks for them, and takes none
    made.seek(0)
    return made


def _checked(name: str, raw: bytes) -> bytes:
    if name not in (GRAPH, *CONFIGS):
        return raw
    if len(raw) > MAX_JSON:
        raise ModelUnloadable(f"{name} has more than {MAX_JSON} bytes.")
    document = json.loads(raw)
    _check_graph(document)
    if name != GRAPH:
        for config in document["config"].values():
            if config["use_pickle"] is not False:
                raise ModelUnloadable("The program has weights or constants that are pickled, which are never read.")
    return json.dumps(document).encode()


def _check_graph(value: Any) -> None:
    """Walk all of it: whatever names an operator or is a size is checked, and what is only said about it is dropped."""
    if isinstance(value, str):
        _require_tame(value)
    if isinstance(value, list):
        for item in value:
            _check_graph(item)
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        _require_tame(name)
        if name == "metadata":
            value[name] = {}
        elif name == "guards_code":
            value[name] = []
        elif name == "as_operator" or (name == "target" and "inputs" in value):
            _require_operator(item)
        elif name == "expr_str":
            _require_size(item)
        elif name in ("as_custom_obj", "custom_obj_name") and item:
            raise ModelUnloadable("The program has objects of its own classes, which are never made.")
        elif name != "as_string":  # an operator's argument, which stays a string
            _check_graph(item)


def _require_tame(text: str) -> None:
    """Names become Python's source when the program is made: there is no call, no string and no statement in these.

    The shapes of arguments are JSON within JSON.
    """
    if TAME.fullmatch(text):
        return
    try:
        inner = json.loads(text)
    except ValueError:
        raise ModelUnloadable(f"The program has a name that is none: {text[:100]!r}") from None
    _check_graph(inner)


def _require_operator(target: Any) -> None:
    if not isinstance(target, str):
        raise ModelUnloadable("The program calls what is no operator.")
    if not OPERATOR.fullmatch(target):
        raise ModelUnloadable(f"The program calls {target[:100]!r}; only torch's own operators (aten) may be called.")


def _require_size(text: Any) -> None:
    if not isinstance(text, str) or len(text) > MAX_EXPRESSION:
        raise ModelUnloadable("A size of the program is not understood.")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, MemoryError) as error:
        raise ModelUnloadable(f"The size {text[:100]!r} of the program is not understood.") from error
    if not _is_size(tree):
        raise ModelUnloadable(f"The size {text[:100]!r} of the program is not one of sums, products and symbols.")


def _is_size(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=bool() | int() | float()):
            return True
        case ast.Constant(value=str() as name):
            return NAME.fullmatch(name) is not None
        case ast.Name(id=name):
            return NAME.fullmatch(name) is not None
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return _is_size(inner)
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.FloorDiv() | ast.Mod()):
            return _is_size(node.left) and _is_size(node.right)
        case ast.Call(func=ast.Name(id=called), args=args, keywords=keywords):
            given = [*args, *(it.value for it in keywords)]
            return called in CALLS and all(it.arg in KEYWORDS for it in keywords) and all(map(_is_size, given))
    return False
