"""The processes of one training run: rank, size and the few collectives the trainer itself needs."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """This process among its peers. Size 1 needs no process group."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def device(self) -> torch.device:
        """The device of this process: its GPU where there is one."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sum over all processes, in fp64 because token counts exceed fp32's integers."""
        if self.size == 1:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def from_first(self, value: float) -> float:
        """The first process's value, everywhere."""
        return self.sum([value if self.is_first else 0.0])[0]

    def all_from_first(self, values: Mapping[str, float]) -> dict[str, float]:
        """The first process's values, everywhere, so that what is decided by them is decided alike: kernels may round differently."""
        names = sorted(values)
        return dict(zip(names, self.sum([values[name] if self.is_first else 0.0 for name in names]), strict=True))

    def all_true(self, value: bool) -> bool:
        """True where every process says True."""
        return self.sum([0.0 if value else 1.0])[0] == 0.0

    def barrier(self) -> None:
        """Waits for every process."""
        if self.size > 1:
            dist.barrier()


def open_world() -> World:
    """Joins the processes torchrun started (its environment variables say so); alone without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    world = World(rank=int(os.environ["RANK"]), size=size, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if torch.cuda.is_available():
        torch.cuda.set_device(world.local_rank)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        # Backend threads still running when the interpreter goes down abort the process, and torchrun then fails a finished run.
        atexit.register(leave_world)
    return world


def leave_world() -> None:
    """Ends this process's groups and their threads; nothing to do where none is open."""
    if dist.is_initialized():
        dist.destroy_process_group()
