"""python kill_training.py FOLDER [--world 2] [--kills 10] [--seed 0]: does a killed training end as one that is not?

Trains once unbroken, then once for each kill: SIGKILL at a random step of a random process (the last time twice in one
run), again until it ends. The processes are forks of this one, which has loaded torch. Prints as JSON what came out.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from trainyard.runtime.runs import Run, facts_of

ROWS, BATCH, EPOCHS, INTERVAL = 120, 16, 3, 4
STEPS = EPOCHS * -(-ROWS // BATCH)
LOSSES = "losses.jsonl"


@dataclass
class Outcome:
    """Of one training, whatever happened to it."""

    weights: str = ""
    losses: dict[int, str] = field(default_factory=dict)
    repeated: int = 0
    """The most steps that were done again after a kill."""
    killed_at: list[int] = field(default_factory=list)


def train(
    folder: Path,
    environment: Mapping[str, str],
    die_at: int | None,
    *,
    disturb: bool = False,
    pause_at: int | None = None,
) -> None:
    """The program of a user: a network with dropout, an optimizer with state, a scheduler."""
    run = Run(facts_of(environment, folder, {"seed": 3}, None), environment)
    run.torch.join()
    run.torch.exact()
    made = torch.Generator().manual_seed(1)
    features = torch.randn(ROWS, 1, 6, 6, generator=made)
    target = (features.sum((1, 2, 3)) > 0).long()
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Dropout(0.3), torch.nn.Linear(64, 2),
    )  # fmt: skip
    model = run.torch.parallel(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=STEPS)
    order = run.order(ROWS, batch=BATCH, epochs=EPOCHS)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    for batch in run.torch.training(order, steps=INTERVAL, seconds=None, **parts):
        if batch.step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if batch.step == pause_at and run.rank == 0:
            (folder / "reached").touch()
            signal.pause()
        if disturb:
            torch.manual_seed(0)
            disturb = False
        noise = random.random() * 0.01  # Python's own generator has its part in it
        loss = torch.nn.functional.cross_entropy(model(features[batch.indices] + noise), target[batch.indices])
        optimizer.zero_grad()
        (loss * batch.share).backward()
        optimizer.step()
        scheduler.step()
        if run.rank == 0:
            with (folder / LOSSES).open("a") as file:
                file.write(json.dumps([batch.step, loss.item().hex()]) + "\n")
    if run.rank == 0:
        content = b"".join(tensor.numpy().tobytes() for _, tensor in sorted(network.state_dict().items()))
        (folder / "weights").write_text(hashlib.sha256(content).hexdigest())
    run.torch.leave()


@dataclass(frozen=True)
class Way:
    """How trainings are begun."""

    world: int
    disturb: bool = False
    """Forget the random states, as a checkpoint without them would."""
    program: Callable[..., None] = train


def fork(folder: Path, way: Way, rank: int, port: int, die_at: int | None) -> int:
    """A process of the training."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        joined = {"RANK": str(rank), "WORLD_SIZE": str(way.world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update(joined)
        way.program(folder, joined, die_at, disturb=way.disturb)
        code = 0
    finally:
        os._exit(code)


def attempt(folder: Path, way: Way, die_at: int | None, victim: int) -> bool:
    """Whether it came to its end. When one is gone the others are ended, as torchrun does it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    children = [fork(folder, way, rank, port, die_at if rank == victim else None) for rank in range(way.world)]
    waiting = set(children)
    well = True
    late = False

    def end_late(number: int, frame: object) -> None:
        nonlocal late
        late = True
        for other in waiting:
            os.kill(other, signal.SIGKILL)

    # Once of some thirty trainings a fork did not end after its goodbye (destroy_process_group), all work being done.
    signal.signal(signal.SIGALRM, end_late)
    while waiting:
        child, status = os.wait()
        waiting.discard(child)
        signal.alarm(20 if waiting and well and not status else 0)
        if status and well and not late:
            well = False
            for other in waiting:
                os.kill(other, signal.SIGKILL)
    return well


def outcome(folder: Path, way: Way, kills: list[tuple[int, int]]) -> Outcome:
    """Of a training that is killed at these steps, each time that process of it."""
    folder.mkdir(parents=True)
    found = Outcome(killed_at=[step for step, _ in kills])
    seen = 0
    last: list[tuple[int | None, int]] = [(None, 0)]
    for step, victim in [*kills, *last]:
        ended = attempt(folder, way, step, victim)
        if ended is not (step is None):
            raise SystemExit(f"A training that was to be killed at {step} ended by itself, or the other way round.")
        lines = [json.loads(line) for line in (folder / LOSSES).read_text().splitlines()]
        if seen and lines[seen:]:
            found.repeated = max(found.repeated, lines[seen - 1][0] - lines[seen][0] + 1)
        seen = len(lines)
        found.losses.update(lines)
    found.weights = (folder / "weights").read_text()
    return found


def main(arguments: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--world", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--disturb", action="store_true")
    parser.add_argument(
        "--pause-at", type=int, help="no kills: one process of torchrun, which waits there for a signal"
    )
    asked = parser.parse_args(arguments)
    if asked.pause_at is not None:
        train(asked.folder, os.environ, None, pause_at=asked.pause_at)
        return {}
    torch.set_num_threads(1)
    import_module("torch.nn.parallel")
    (asked.folder / "warm").mkdir(parents=True)
    train(asked.folder / "warm", {}, None)  # what torch imports at the first step need not be imported by each fork
    dice = random.Random(asked.seed)
    unbroken = outcome(asked.folder / "unbroken", Way(asked.world, asked.disturb), [])
    broken = []
    for number in range(asked.kills):
        steps = sorted(dice.sample(range(2, STEPS + 1), 2 if number == asked.kills - 1 else 1))
        kills = [(step, dice.randrange(asked.world)) for step in steps]
        broken.append(outcome(asked.folder / f"broken-{number}", Way(asked.world, asked.disturb), kills))
    return {
        "unbroken": unbroken.weights,
        "broken": [it.weights for it in broken],
        "losses_equal": all(it.losses == unbroken.losses for it in broken),
        "repeated": max((it.repeated for it in broken), default=0),
        "killed_at": [it.killed_at for it in broken],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1:])) + "\n")
