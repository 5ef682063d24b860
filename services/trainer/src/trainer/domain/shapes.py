"""How large an attempt is: read from what its job asks for, with what a cluster gives when it asks for nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_FACTORS |= {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Nodes, processes on each, and what each node is given."""

    least: int = 1
    most: int = 1
    nproc: int = 1
    millicores: int = 1000
    memory: int = 2 << 30
    gpu: int = 0

    @property
    def spare(self) -> int:
        """Nodes that it goes on without."""
        return self.most - self.least

    @property
    def processes(self) -> int:
        """At most, on all nodes."""
        return self.most * self.nproc


def shape_of(spec: Mapping[str, Any], usual: Shape) -> Shape:
    """What a job's `nodes`, `nproc` and `resources` mean. They were checked when the job was taken."""
    nodes, resources = spec.get("nodes") or 1, spec.get("resources") or {}
    least, most = (nodes["min"], nodes["max"]) if isinstance(nodes, Mapping) else (nodes, nodes)
    cpu, memory = resources.get("cpu"), resources.get("memory")
    return Shape(
        least=int(least),
        most=int(most),
        nproc=int(spec.get("nproc") or 1),
        millicores=usual.millicores if cpu is None else max(1, round(float(cpu) * 1000)),
        memory=usual.memory if memory is None else bytes_of(memory),
        gpu=int(resources.get("gpu") or 0),
    )


def bytes_of(quantity: str | int) -> int:
    """`2Gi`, `500M` or a number of bytes.

    Raises:
        ValueError: it is none of these.
    """
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"{str(quantity)[:50]!r} is no amount of memory")
    return round(float(match[1]) * _FACTORS[match[2] or ""])
