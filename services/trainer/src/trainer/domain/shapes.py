"""How large an attempt is: read from what its job asks for, with what a cluster gives when it asks for nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.domain.resources import Resources


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


def shape_of(spec: Mapping[str, Any], usual: Shape) -> Shape:
    """What a job's `nodes`, `nproc` and `resources` mean. They were checked when the job was taken."""
    nodes, asked = spec.get("nodes") or 1, spec.get("resources")
    least, most = (nodes["min"], nodes["max"]) if isinstance(nodes, Mapping) else (nodes, nodes)
    needs = Resources.from_json(asked or {})
    return Shape(
        least=int(least),
        most=int(most),
        nproc=int(spec.get("nproc") or 1),
        millicores=needs.cpu_millis if asked else usual.millicores,
        memory=needs.memory_bytes or usual.memory,
        gpu=needs.gpus,
    )
