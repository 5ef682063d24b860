"""Handwritten digits, learnt by a small convolutional network: with torch, by one process or several, killed or not.

    python train.py                                            as plain Python, into ./trainyard-run
    torchrun --standalone --nproc-per-node 2 train.py          by two processes
    trainyard job run --file job.yaml --watch                  on the platform

Takes a dataset with 64 columns of pixels and a column `digit` (see prepare.py), or else the one that scikit-learn has.
"""

import sys
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainyard import runtime

DEFAULTS = {"lr": 0.004, "epochs": 12, "batch": 64, "dropout": 0.2, "width": 16}


def rows(run: runtime.Run, split: str) -> tuple[Any, Any]:
    """Images of 8 by 8 between 0 and 1, and the digits that they show."""
    if split in run.splits:
        data = run.dataset(split).torch(target="digit")
        pixels, digits = data.features, data.target.long()
    else:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - only where no dataset is given

        found, known = load_digits(return_X_y=True)
        mine = [index for index in range(len(found)) if (index % 5 == 0) == (split == "test")]
        pixels, digits = torch.tensor(found[mine], dtype=torch.float32), torch.tensor(known[mine])
    return (pixels / 16).reshape(-1, 1, 8, 8), digits


def network(width: int, dropout: float) -> Any:
    """Takes images, gives ten scores."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(8 * width, 10),
    )


def accuracy(model: Any, images: Any, digits: Any) -> float:
    """Of a model that is not being trained at that moment."""
    model.eval()
    with torch.no_grad():
        right = (model(images).argmax(1) == digits).float().mean().item()
    model.train()
    return float(right)


def main() -> float:
    """Train, and hand the model over."""
    run = runtime.current(parameters=DEFAULTS)
    run.torch.join()
    run.torch.exact()
    known = run.parameters
    images, digits = rows(run, "train")
    held_out = rows(run, "test")

    model = network(int(known["width"]), float(known["dropout"]))
    parallel = run.torch.parallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=float(known["lr"]))
    order = run.order(len(images), batch=int(known["batch"]), epochs=int(known["epochs"]))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, order.steps)

    for batch in run.torch.training(order, seconds=10, model=model, optimizer=optimizer, scheduler=scheduler):
        loss = functional.cross_entropy(parallel(images[batch.indices]), digits[batch.indices]) * batch.share
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        run.log({"loss": loss.item()}, step=batch.step)
        if batch.ends_epoch:
            run.log({"accuracy": accuracy(model, *held_out)}, step=batch.step)

    found = accuracy(model, *held_out)
    if run.rank == 0:
        sys.stdout.write(f"right about {found:.1%} of {len(held_out[0])} held-out digits\n")
    run.save_model(
        model,
        example=held_out[0][:2],
        inputs=["image"],
        outputs=["scores"],
        metrics={"accuracy": found, "loss": loss.item()},
    )
    run.torch.leave()
    return found


if __name__ == "__main__":
    main()
