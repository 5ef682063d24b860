"""What benchmarks/serving.py has seen, as tables in Markdown."""

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from benchmarks.serving_models import Workload


class Seen(Protocol):
    """What is asked of a server that was measured."""

    name: str
    ready_seconds: float
    rates: dict[str, list[float]]
    failures: int
    memory: int
    latency: dict[str, tuple[float, float, float]]


def of(servers: Sequence[Seen], workloads: Sequence[Workload]) -> str:
    """All tables; ours is the first server."""
    lines = [*_rates(servers, workloads), "", *_latencies(servers), "", *_processes(servers)]
    return "\n".join(lines) + "\n"


def _rates(servers: Sequence[Seen], workloads: Sequence[Workload]) -> Iterator[str]:
    ours, *peers = servers
    yield f"Requests per CPU second of the server ({os.cpu_count()} cores), and ours in ratio to the best peer."
    yield ""
    yield f"| | connections | {' | '.join(it.name for it in servers)} | to the best peer | wanted |"
    yield f"|---|--:|{'--:|' * len(servers)}--:|--:|"
    for it in workloads:
        # In JSON, with or without a twin: peers know one way to be asked.
        of_peers = f"{it.model}-{it.connections}" if it.rows < 64 or it.model == "hgb" else f"{it.model}-rows-8"
        cells = [_median(ours.rates.get(it.name)), *(_median(peer.rates.get(of_peers)) for peer in peers)]
        found = ratio(ours.rates.get(it.name, []), [peer.rates[of_peers] for peer in peers if of_peers in peer.rates])
        said = "-" if found is None else f"{found:,.1f}"
        form = ", binary" if it.form == "binary" else ""
        yield f"| {it.title}{form} | {it.connections} | {' | '.join(cells)} | {said} | {it.least:g} |"


def ratio(ours: Sequence[float], peers: Sequence[Sequence[float]]) -> float | None:
    """The median over the rounds of ours to the best peer's of the same round."""
    bests = [max(rates) for rates in zip(*peers, strict=True)]
    if not ours or not bests:
        return None
    return float(statistics.median(mine / best for mine, best in zip(ours, bests, strict=True) if best))


def _median(values: Sequence[float] | None) -> str:
    return f"{statistics.median(values):,.0f}" if values else "-"


def _latencies(servers: Sequence[Seen]) -> Iterator[str]:
    yield "Latency at 80 % of what each can do, arrivals at moments that were set beforehand."
    yield ""
    yield "| | workload | arrivals/s | p50 ms | p99 ms |"
    yield "|---|---|--:|--:|--:|"
    seen: Mapping[str, tuple[float, float, float]]
    for server in servers:
        seen = server.latency
        for name, (rate, p50, p99) in seen.items():
            yield f"| {server.name} | {name} | {rate:,.0f} | {p50:.2f} | {p99:.2f} |"


def _processes(servers: Sequence[Seen]) -> Iterator[str]:
    yield "| | memory MB (PSS of the tree, all models loaded) | ready s | failures |"
    yield "|---|--:|--:|--:|"
    for it in servers:
        yield f"| {it.name} | {it.memory / 2**20:,.0f} | {it.ready_seconds:.1f} | {it.failures} |"
