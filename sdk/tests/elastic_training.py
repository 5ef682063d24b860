"""python elastic_training.py FOLDER: four processes begin, two go on, three end it; for five seeds.

Each time one of them is killed in the middle of an epoch. Prints as JSON, for each seed, how often each row was seen in
each epoch by the steps that count, and the loss at the end beside that of one process that nobody disturbed.
"""

import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from kill_training import Way, attempt

from trainyard.runtime.runs import Run, facts_of

ROWS, BATCH, EPOCHS, INTERVAL = 150, 16, 4, 3
STEPS = EPOCHS * -(-ROWS // BATCH)
WORLDS = (4, 2, 3)
SEEDS = 5


def train(folder: Path, environment: Mapping[str, str], die_at: int | None, *, disturb: bool = False) -> None:
    """What each process does."""
    seed = int(folder.name.rpartition("-")[2])
    run = Run(facts_of(environment, folder, {}, None), environment)
    run.torch.join()
    run.torch.exact()
    made = torch.Generator().manual_seed(seed)
    features = torch.randn(ROWS, 5, generator=made)
    target = (features**2).sum(1, keepdim=True) + torch.randn(ROWS, 1, generator=made) / 10
    torch.manual_seed(seed)  # as many processes as there are, they begin at the same weights
    network = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    model = run.torch.parallel(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    order = run.order(ROWS, batch=BATCH, epochs=EPOCHS)
    for batch in run.torch.training(order, steps=INTERVAL, seconds=None, model=model, optimizer=optimizer):
        if batch.step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = torch.nn.functional.mse_loss(model(features[batch.indices]), target[batch.indices])
        optimizer.zero_grad()
        (loss * batch.share).backward()
        optimizer.step()
        entry = [batch.step, batch.epoch, run.world_size, list(batch.indices) if batch.share else []]
        with (folder / f"seen-{run.rank}.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
    if run.rank == 0:
        with torch.no_grad():
            (folder / "loss").write_text(str(torch.nn.functional.mse_loss(network(features), target).item()))
    run.torch.leave()


def counted(folder: Path) -> list[dict[int, int]]:
    """Of each epoch, how often rows were seen: of a step that was done again, by those who did it last."""
    entries = [json.loads(line) for path in folder.glob("seen-*") for line in path.read_text().splitlines()]
    order = {world: number for number, world in enumerate(WORLDS)}
    last: dict[int, int] = {}
    for step, _, world, _ in entries:
        last[step] = max(last.get(step, 0), order[world])
    found = [Counter[int]() for _ in range(EPOCHS)]
    for step, epoch, world, rows in entries:
        if order[world] == last[step]:
            found[epoch].update(rows)
    return [dict(sorted(Counter(times.values()).items())) for times in found]


def main(folder: Path) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    answers = []
    for seed in range(SEEDS):
        dice = random.Random(seed)
        elastic, alone = folder / f"elastic-{seed}", folder / f"alone-{seed}"
        elastic.mkdir(parents=True)
        alone.mkdir()
        train(alone, {}, None)
        third = STEPS // 3
        for world, die_at in zip(
            WORLDS, (dice.randrange(4, third), dice.randrange(third, 2 * third), None), strict=True
        ):
            attempt(elastic, Way(world, program=train), die_at, dice.randrange(world))
        losses = {path.parent.name.partition("-")[0]: float(path.read_text()) for path in folder.glob(f"*-{seed}/loss")}
        answers.append({"rows": ROWS, "seen": counted(elastic), **losses})
    return answers


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))) + "\n")
