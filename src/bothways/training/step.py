"""One update: gradients of its micro-batches, then a step of the optimizers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from bothways.batch import TrainingBatch
from bothways.hardware import autocast
from bothways.model.bert import Bert
from bothways.training.cuda_graphs import CudaGraphs, shape_of, tensors_of, with_tensors
from bothways.training.distributed import SINGLE_PROCESS, Ranks


def keep_gradients_in_place(bert: Bert, device: torch.device) -> None:
    """Give every parameter a gradient that stays where it is, to be added to and set to zero, never allocated anew.

    On a CPU the gradient of the token embeddings then arrives as the few rows of the batch and is added to its buffer;
    a fresh dense gradient of the whole table would cost more than the rest of a small update (docs/decisions.md).
    """
    bert.embeddings.token.sparse = device.type == "cpu"
    for parameter in bert.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


@contextmanager
def compiled(bert: Bert) -> Iterator[None]:
    """Inside, the methods of `bert` in which no token sees another are compiled, once for any number of tokens.

    Attention is left out: it is one kernel already, and would be compiled anew for every list of lengths.
    """
    parts: list[tuple[torch.nn.Module, str]] = [(bert.embeddings, "forward")]
    parts += [(layer, "after_attention") for layer in bert.encoder.layers]
    parts += [(output, method) for output in bert.outputs for method in ("forward", "loss")]
    for module, method in parts:
        vars(module)[method] = torch.compile(getattr(module, method), dynamic=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\._inductor")  # on its own choices, nothing to be mended
            yield
    finally:
        for module, method in parts:
            del vars(module)[method]


def backward(
    bert: Bert,
    update: list[TrainingBatch],
    dtype: torch.dtype,
    device: torch.device,
    ranks: Ranks = SINGLE_PROCESS,
    recorder: CudaGraphs | None = None,
) -> Mapping[str, tuple[Tensor, int]]:
    """Add the gradients of one update; every labelled target of an output weighs the same, whichever micro-batch, and
    whichever rank, it is in. Returns by output: (summed loss, number of targets), over all ranks."""
    names = [output.config.name for output in bert.outputs]
    counted = [sum(output.count(batch.targets[output.config.name]) for batch in update) for output in bert.outputs]
    counts = ranks.all_reduce(torch.tensor(counted, dtype=torch.float64, device=ranks.device)).tolist()
    weights = [output.config.loss_weight / max(1, count) for output, count in zip(bert.outputs, counts, strict=True)]
    weighing = torch.tensor(weights, dtype=torch.float32, pin_memory=device.type == "cuda")
    losses = torch.zeros(len(names), device=device)
    for batch in update:
        work = partial(forward_and_backward, bert, batch, dtype, device)
        given = [*tensors_of(batch), weighing]
        if recorder is None:
            (found,) = work([tensor.to(device, non_blocking=True) for tensor in given])
        else:
            (found,) = recorder(shape_of(batch), work, given)
        losses += found
    return {
        name: (loss, int(count))
        for name, loss, count in zip(names, ranks.all_reduce(losses).unbind(), counts, strict=True)
    }


def forward_and_backward(
    bert: Bert, batch: TrainingBatch, dtype: torch.dtype, device: torch.device, given: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Add the gradients of a micro-batch whose tensors are `given`, and last what each output's loss is to be
    multiplied with, (outputs,). Returns the summed losses, (outputs,)."""
    *tensors, weights = given
    batch = with_tensors(batch, tensors)
    with autocast(dtype, device):
        logits = bert(batch.inputs)
    losses = torch.stack(
        [output.loss(logits[output.config.name], batch.targets[output.config.name]) for output in bert.outputs]
    )
    (losses * weights).sum().backward()
    return (losses.detach(),)
