"""Several processes, on one machine or many, under `torchrun`: each reads its share, all take the same step.

Data-parallel training (arXiv 2006.15704, section 2.2). Every rank holds the whole model; the targets of an update are
counted over all ranks before the losses are divided, and gradients are summed, so that an update is the same however
many ranks share it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

from bothways.errors import InputError


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, and which of them this is."""

    rank: int = 0
    """This process."""
    world: int = 1
    """How many there are."""
    device: torch.device | None = None
    """The device of this process, if there are several."""

    @classmethod
    def join(cls) -> Ranks:
        """Meet the other processes that `torchrun` has started; one process alone is a world of one."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(int(os.environ["RANK"]), world, device)

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def sums(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place. Any shape."""
        if self.world > 1:
            torch.distributed.all_reduce(values)
        return values

    def any(self, here: bool) -> bool:
        """Whether it is so on any rank."""
        return here if self.world == 1 else bool(self.sums(torch.tensor(float(here), device=self.device)))

    def sum_gradients(self, model: nn.Module) -> None:
        """Sum the gradients of all ranks: in one piece, which costs one round trip and not one for each parameter."""
        if self.world == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = self.sums(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def require_same(self, value: str, what: str) -> None:
        """Raise InputError unless `value` is the same on every rank."""
        if self.world == 1:
            return
        values: list[str | None] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise InputError(f"Rank {rank} has another {what} than rank 0; give every rank the same.")

    def wait(self) -> None:
        """Until every rank has come here."""
        if self.world > 1:
            torch.distributed.barrier()


ALONE = Ranks()
"""One process."""
