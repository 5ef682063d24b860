"""Which metrics the code registers: what dashboards, rules and the documentation may speak of."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_MADE = re.compile(
    r'\b(Counter|Gauge|Histogram)(?:MetricFamily)?\(\s*"(trainyard_\w+)",\s*"([^"]*)"(?:\s*"[^"]*")*'
    r"(?:,\s*(?:labels=)?(\[[^\]]*\]))?",
    re.DOTALL,
)
_NAMED = re.compile(r"\btrainyard_[a-z0-9_]+")
SERIES = ("_bucket", "_sum", "_count")


@dataclass(frozen=True)
class Metric:
    name: str
    kind: str
    means: str
    labels: tuple[str, ...]
    where: str


def registered(root: Path = ROOT) -> dict[str, Metric]:
    """All metrics of all packages, by name."""
    return {it.name: it for it in sorted(_found(root), key=lambda it: it.name)}


def _found(root: Path) -> Iterator[Metric]:
    for folder in ("libs/*/src", "services/*/src"):
        for file in sorted(path for source in root.glob(folder) for path in source.rglob("*.py")):
            for kind, name, means, labels in _MADE.findall(file.read_text()):
                yield Metric(name, kind.lower(), means, tuple(re.findall(r'"(\w+)"', labels)), file.parts[-2])


def named(text: str) -> set[str]:
    """The metrics that a text names, without the endings of a histogram's series."""
    known = registered()
    found = set()
    for name in _NAMED.findall(text):
        bare = next((name.removesuffix(end) for end in SERIES if name.removesuffix(end) in known), name)
        found.add(bare)
    return found
