"""A training in a framework that Trainyard does not know: this file. It goes on after a kill like any other.

    python train.py            as plain Python, into ./trainyard-run
    trainyard job run --file job.yaml --watch

Logistic regression by stochastic gradient descent in plain Python, on points that it makes itself. What makes it
survive is three lines: restore, should_save, save.
"""

import math
import random
import sys

from trainyard import runtime

DEFAULTS = {"lr": 0.1, "epochs": 5}
POINTS = 2000


def points(seed: int) -> list[tuple[list[float], int]]:
    """Two clouds."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    made = []
    for _ in range(POINTS):
        label = dice.randrange(2)
        made.append(([dice.gauss(2 * label - 1, 1), dice.gauss(1 - 2 * label, 1)], label))
    return made


def score(weights: list[float], point: list[float]) -> float:
    """The probability that it is of the second cloud."""
    logit = weights[0] + sum(weight * value for weight, value in zip(weights[1:], point, strict=True))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))


def main() -> float:
    """Train, and hand the weights over."""
    run = runtime.current(parameters=DEFAULTS)
    data = points(run.seed)
    weights = [0.0, 0.0, 0.0]
    order = run.order(len(data), batch=20, epochs=int(run.parameters["epochs"]))

    if (found := run.checkpoint.restore()) is not None:
        weights = found.state["weights"]
        at = found.moment
        order.go_on(found.state["order"], step=at.step, epoch=at.epoch, position=at.position)

    for batch in order:
        loss = 0.0
        for point, label in (data[index] for index in batch.indices):
            guess = score(weights, point)
            loss -= math.log(guess if label else 1 - guess) / len(batch.indices)
            pull = float(run.parameters["lr"]) * (label - guess)
            weights = [weight + pull * value for weight, value in zip(weights, [1.0, *point], strict=True)]
        run.log({"loss": loss}, step=batch.step)
        run.progress(batch.step, order.steps)
        if run.checkpoint.should_save:
            state = {"weights": weights, "order": order.state_dict()}
            run.checkpoint.save(state, step=batch.step, epoch=batch.epoch, position=batch.position)

    right = sum((score(weights, point) > 0.5) == bool(label) for point, label in data) / len(data)
    file = run.facts.outputs / "weights.csv"
    file.write_text(",".join(weight.hex() for weight in weights) + "\n")
    run.save_model(file, metrics={"accuracy": right})
    sys.stdout.write(f"right about {right:.1%} of {len(data)} points\n")
    return right


if __name__ == "__main__":
    main()
