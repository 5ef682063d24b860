"""The processes that train together: what one knows of the others, and how they agree."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from trainyard.runtime.mistakes import NotInitialised


class Group(Protocol):
    """Every process calls the same of these, in the same order."""

    rank: int
    world_size: int

    def told(self, value: Any) -> Any:
        """What rank 0 says."""

    def all_told(self, value: Any) -> list[Any]:
        """What each says, in the order of ranks."""

    def most(self, values: Sequence[int]) -> list[int]:
        """Of each number the greatest that any process has."""

    def leave(self) -> None:
        """All are here, and go their ways."""


class Alone:
    """One process."""

    rank = 0
    world_size = 1

    def told(self, value: Any) -> Any:
        """What rank 0 says."""
        return value

    def all_told(self, value: Any) -> list[Any]:
        """What each says."""
        return [value]

    def most(self, values: Sequence[int]) -> list[int]:
        """The greatest."""
        return list(values)

    def leave(self) -> None:
        """Nobody to leave."""


class Together:
    """The processes of torch.distributed, as torchrun starts them."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size

    def told(self, value: Any) -> Any:
        """What rank 0 says."""
        box = [value]
        self._distributed().broadcast_object_list(box, src=0)
        return box[0]

    def all_told(self, value: Any) -> list[Any]:
        """What each says."""
        box = [None] * self.world_size
        self._distributed().all_gather_object(box, value)
        return list(box)

    def most(self, values: Sequence[int]) -> list[int]:
        """The greatest."""
        distributed = self._distributed()
        torch = import_module("torch")
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        tensor = torch.tensor(list(values), dtype=torch.int64, device=device)
        distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX)
        found: list[int] = tensor.tolist()
        return found

    def leave(self) -> None:
        """All are here, and go their ways: one that ended sooner would take the others' connections with it."""
        distributed = self._distributed()
        distributed.barrier()
        distributed.destroy_process_group()

    def _distributed(self) -> Any:
        distributed = import_module("torch.distributed")
        if not distributed.is_initialized():
            raise NotInitialised(
                f"This is one process of {self.world_size}, which have not met: call run.torch.join() at the beginning "
                "of the program (or torch.distributed.init_process_group)."
            )
        return distributed


def group_of(environment: Mapping[str, str] | None = None) -> Group:
    """As the environment that torchrun makes says it."""
    found = os.environ if environment is None else environment
    world_size = int(found.get("WORLD_SIZE", "1"))
    return Together(int(found["RANK"]), world_size) if world_size > 1 else Alone()
