"""For programs that use torch: processes that join, what makes a training exact, and one that goes on by itself."""

import hashlib
import os
import random
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainyard.runtime.mistakes import CannotResume
from trainyard.runtime.orders import Batch, Order

if TYPE_CHECKING:
    from trainyard.runtime.runs import Run

torch: Any = import_module("torch")
TIMEOUT = timedelta(minutes=2)
"""How long a process waits for one that may be gone; torch's own 30 minutes are long for that."""


class Torch:
    """`run.torch`."""

    def __init__(self, run: "Run") -> None:
        self._run = run

    def join(self, backend: str | None = None, timeout: timedelta = TIMEOUT) -> None:
        """Meet the other processes that torchrun has started. One process alone has nobody to meet."""
        cards = torch.cuda.device_count()
        if cards:
            torch.cuda.set_device(int(self._run.environment.get("LOCAL_RANK", "0")) % cards)
        distributed = import_module("torch.distributed")
        if self._run.world_size > 1 and not distributed.is_initialized():
            distributed.init_process_group(backend or ("nccl" if cards else "gloo"), timeout=timeout)

    def leave(self) -> None:
        """Say goodbye to them, at the end of the program."""
        self._run.group.leave()

    def exact(self) -> None:
        """Seed all that is random, of each rank differently, and let the same job give the same weights."""
        seeded(self._run.seed, self._run.rank, 0)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, that library is not deterministic
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False

    def parallel(self, model: Any) -> Any:
        """The model as all processes train it together (DistributedDataParallel); of one process, the model."""
        if self._run.world_size == 1:
            return model
        return import_module("torch.nn.parallel").DistributedDataParallel(model)

    def training(
        self, order: Order, *, steps: int | None = None, seconds: float | None = 60.0, keep: int = 2, **parts: Any
    ) -> "Training":
        """A training that saves where it stands and goes on from there: see `Training`.

        `parts` are the model, the optimizer, the scheduler and whatever else has a `state_dict` and `load_state_dict`.
        A checkpoint is made every so many `steps`, every so many `seconds`, and when the host is about to stop it.
        """
        rhythm = self._run.checkpoint.rhythm
        rhythm.steps, rhythm.seconds, rhythm.keep = steps, seconds, keep
        return Training(self._run, order, parts)


class Training:
    """Its batches, one after the other. Each is done when the next is asked for: weights, optimizer, scheduler and all
    generators of random numbers are then saved together with the place in the data, if it is time for that."""

    def __init__(self, run: "Run", order: Order, parts: Mapping[str, Any]) -> None:
        self._run = run
        self._order = order
        # A model's names must not depend on whether it is trained by one process or by several.
        self._parts = {name: _bare(part) for name, part in parts.items()}

    def __iter__(self) -> Iterator[Batch]:
        self._restore()
        steps = self._order.steps
        batch = None
        for batch in self._order:
            yield batch
            self._run.progress(batch.step, steps)
            if self._run.checkpoint.should_save:
                self._save(batch)
        if batch is not None:
            self._save(batch)

    def _restore(self) -> None:
        found = self._run.checkpoint.restore()
        if found is None:
            return
        saved = found.state["parts"]
        if saved.keys() != self._parts.keys():
            raise CannotResume(f"The checkpoint has {', '.join(saved)}; the program has {', '.join(self._parts)}.")
        moment = found.moment
        self._order.go_on(found.state["order"], step=moment.step, epoch=moment.epoch, position=moment.position)
        for name, part in self._parts.items():
            part.load_state_dict(saved[name])
        if found.local is not None:
            set_random_states(found.local)
        else:
            # Those of ranks that are no more: nothing that was drawn already is drawn again.
            seeded(self._run.seed, self._run.rank, moment.step)

    def _save(self, batch: Batch) -> None:
        state = {
            "parts": {name: part.state_dict() for name, part in self._parts.items()} if self._run.rank == 0 else {},
            "order": self._order.state_dict(),
        }
        self._run.checkpoint.save(
            state, step=batch.step, epoch=batch.epoch, position=batch.position, local=random_states()
        )


def seeded(seed: int, rank: int, step: int) -> None:
    """Begin every generator of random numbers that this process has, for each rank and step elsewhere."""
    number = int.from_bytes(hashlib.sha256(f"{seed}/{rank}/{step}".encode()).digest()[:7], "big")
    random.seed(number)
    torch.manual_seed(number)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(number % 2**32)


def random_states() -> dict[str, Any]:
    """Of every generator of random numbers that this process has."""
    numpy = sys.modules.get("numpy")
    return {
        "python": random.getstate(),
        "numpy": None if numpy is None else numpy.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """As they were."""
    random.setstate(states["python"])
    if states["numpy"] is not None:
        import_module("numpy").random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def _bare(part: Any) -> Any:
    """A model without what makes it parallel."""
    return part.module if type(part).__name__ == "DistributedDataParallel" else part
