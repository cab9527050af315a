"""Several processes, on one machine or many, under `torchrun`: each reads its share, all take the same step.

Data-parallel training (arXiv 2006.15704, section 2.2). Every rank holds the whole model, or a shard of it; the targets
of an update are counted over all ranks before the losses are divided, and gradients are summed, so that an update is
the same however many ranks share it.
"""

from __future__ import annotations

import atexit
import copy
import os
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

from bothways.errors import InputError
from bothways.model.text_model import Model, TextModel


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, and which of them this is."""

    rank: int = 0
    """This process."""
    world_size: int = 1
    """How many there are."""
    device: torch.device | None = None
    """The device of this process, if there are several."""

    @classmethod
    def join(cls) -> Ranks:
        """Meet the other processes that `torchrun` has started; one process alone is a world of one."""
        rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1:
            return cls()
        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        if not torch.distributed.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            torch.distributed.init_process_group(backend, store=rendezvous_store(), rank=rank, world_size=world_size)
            atexit.register(leave)
        return cls(rank, world_size, device)

    @property
    def is_main(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def is_local_main(self) -> bool:
        """Whether this is the first process of its machine."""
        return self.world_size == 1 or os.environ.get("LOCAL_RANK", "0") == "0"

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place. Any shape."""
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        return values

    def any(self, here: bool) -> bool:
        """Whether it is so on any rank."""
        return here if self.world_size == 1 else bool(self.all_reduce(torch.tensor(float(here), device=self.device)))

    def all_reduce_gradients(self, model: nn.Module) -> None:
        """Sum the gradients of all ranks: in one piece, which costs one round trip and not one for each parameter."""
        if self.world_size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if is_distributed(gradients[0]):  # a sharded model has averaged them already
            for gradient in gradients:
                gradient.mul_(self.world_size)
            return
        flat = self.all_reduce(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def shard(self, model: Model) -> Model:
        """A copy of a model whose weights are shared out over all ranks, layer by layer (FSDP2, arXiv 2304.11277)."""
        from torch.distributed.fsdp import fully_shard

        model = copy.deepcopy(model)
        for layer in model.layers:
            fully_shard(layer)
        fully_shard(model)
        return model

    def gather(self, sharded: TextModel, into: TextModel) -> None:
        """Copy the weights of a sharded model into one that is whole."""
        with torch.no_grad():
            for parameter, goal in zip(sharded.parameters(), into.parameters(), strict=True):
                goal.copy_(full_tensor(parameter.detach()))

    def require_same(self, value: str, what: str, advice: str = "give every rank the same") -> None:
        """Raise InputError unless `value` is the same on every rank."""
        if self.world_size == 1:
            return
        values: list[str | None] = [None] * self.world_size
        torch.distributed.all_gather_object(values, value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise InputError(f"Rank {rank} has another {what} than rank 0; {advice}.")

    def barrier(self) -> None:
        """Until every rank has come here."""
        if self.world_size > 1:
            torch.distributed.barrier()


def rendezvous_store() -> torch.distributed.Store:
    """Where processes leave their addresses for each other, a fresh one after every restart.

    Without a rendezvous backend `torchrun` keeps the addresses of processes that have died, and the next ones would
    call these.
    """
    store, _, _ = next(torch.distributed.rendezvous("env://"))
    return torch.distributed.PrefixStore("attempt " + os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)


def leave() -> None:
    """Part from the other processes; without it the threads that spoke to them may abort the interpreter's exit."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def is_distributed(tensor: Tensor) -> bool:
    """Whether this is torch's DTensor, whose module takes half a second to import and is not needed by one process."""
    return hasattr(tensor, "full_tensor")


def local_tensor(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that is shared out; any other as it is."""
    return tensor.to_local() if is_distributed(tensor) else tensor  # type: ignore[attr-defined]


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor that is shared out, put together on every rank; any other as it is."""
    return tensor.full_tensor() if is_distributed(tensor) else tensor  # type: ignore[attr-defined]


def distribute_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor, on the device of `parameter` and shared out as it is."""
    tensor = tensor.to(parameter.device)
    if is_distributed(parameter):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]
    return tensor


SINGLE_PROCESS = Ranks()
"""One process."""
