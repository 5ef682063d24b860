"""What a CEL expression speaks of, as far as one can see without evaluating it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST = 4096
_QUOTED = re.compile(r"""(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""")
_INDEX = re.compile(r"""\[\s*("[\w-]*"|'[\w-]*')\s*\]""")
_PATH = re.compile(r"(?<![\w.])(steps|parameters)((?:\s*\.\s*(?:\x01[^\x02]*\x02|\w+))+)", re.ASCII)
_MEMBER = re.compile(r"\.\s*(?:\x01([^\x02]*)\x02|(\w+))", re.ASCII)
_MOST = 8


@dataclass(frozen=True)
class Verdict:
    """What became of an expression: a truth, or why there is none."""

    value: bool | None
    error: str = ""


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """The steps and the parameters that an expression names."""
    steps: set[str] = set()
    parameters: set[str] = set()
    for root, path in _paths_in(expression):
        (steps if root == "steps" else parameters).add(path[0])
    return steps, parameters


def values_in(expression: str, data: Mapping[str, Any]) -> str:
    """What an expression speaks of, with the values it has: `steps.train.outputs.metrics.roc_auc = 0.61`."""
    said: dict[str, str] = {}
    for root, path in _paths_in(expression):
        value: Any = data[root]
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        said[".".join([root, *path])] = "missing" if value is None else f"{value!r}"[:100]
    return ", ".join(f"{name} = {value}" for name, value in list(said.items())[:_MOST])


def _paths_in(expression: str) -> list[tuple[str, tuple[str, ...]]]:
    """Each path that begins at one of the two variables. What stands in strings is none, but `["name"]` is a member."""
    dotted = _INDEX.sub(lambda index: f".\x01{index[1][1:-1]}\x02", expression)
    bare = _without_strings(dotted)
    found = _PATH.finditer(bare)
    return [(path[1], tuple(quoted or word for quoted, word in _MEMBER.findall(path[2]))) for path in found]


def _without_strings(text: str) -> str:
    """An expression with nothing between its quotes. One pass: what is not closed is a string to the end."""
    kept: list[str] = []
    at = 0
    while at < len(text):
        begins = min((found for found in (text.find('"', at), text.find("'", at)) if found >= 0), default=len(text))
        kept.append(text[at:begins])
        if begins == len(text):
            break
        kept.append('""')
        triple = text[begins] * 3
        if text.startswith(triple, begins):
            end = text.find(triple, begins + 3)
            at = len(text) if end < 0 else end + 3
        else:
            closed = _QUOTED.match(text, begins)
            at = len(text) if closed is None else closed.end()
    return "".join(kept)
