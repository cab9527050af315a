"""One update: the gradients of its micro-batches, then a step of the optimizers. `step(number, update, rate) → losses`.

`EagerStep` does one operation after the other; `RecordedStep` replays them on CUDA (`cuda_graphs.py`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor

from bothways.batch import TrainingBatch
from bothways.hardware import autocast, compiles_each_shape, resolve
from bothways.model.text_model import TextModel
from bothways.training.config import TrainingConfig
from bothways.training.cuda_graphs import CudaGraphs, Work, shape_of, tensors_of, with_tensors
from bothways.training.distributed import SINGLE_PROCESS, Ranks, is_distributed
from bothways.training.optimization import optimizers_for

Losses = Mapping[str, tuple[Tensor, int]]
"""By output layer: (summed loss, number of targets), over all ranks."""

Run = Callable[[Hashable, Work, Sequence[Tensor]], Sequence[Tensor]]
"""What does a piece of work on a device, of a kind, with tensors given to it."""


class EagerStep:
    """One operation after the other."""

    round_up_to: int | None
    """Batches are rounded up to multiples of this at least, so that few shapes remain; None: they stay as they are."""

    def __init__(
        self, bert: TextModel, config: TrainingConfig, device: torch.device, ranks: Ranks = SINGLE_PROCESS
    ) -> None:
        """`bert`: on `device`, perhaps shared out over `ranks`."""
        self.bert, self.config, self.device, self.ranks = bert, config, device, ranks
        self.dtype = resolve(config.precision, device)
        self.optimizers = self._optimizers(recorded=False)
        self.compiles = config.compile and device.type == "cuda" and not is_distributed(next(bert.parameters()))
        self.round_up_to = 16 if compiles_each_shape(device, self.dtype) else None
        if not is_distributed(next(bert.parameters())):
            keep_gradients_in_place(bert, device)

    def _optimizers(self, recorded: bool) -> list[torch.optim.Optimizer]:
        config = self.config
        return optimizers_for(
            self.bert,
            config.optimizer,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            muon_every=config.muon_every,
            embedding_rate=config.embedding_rate,
            output_rate=config.output_rate,
            recorded=recorded,
        )

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """All updates are done inside."""
        with ExitStack() as stack:
            if self.compiles:
                stack.enter_context(compiled(self.bert))
            yield

    def __call__(self, number: int, update: list[TrainingBatch], rate: float) -> Losses:
        """Do update `number` with the learning rate `rate`."""
        losses = backward(self.bert, update, self.dtype, self.device, self.ranks, self._run)
        self.ranks.all_reduce_gradients(self.bert)
        self._optimize(number, rate)
        return losses

    def _run(self, kind: Hashable, work: Work, given: Sequence[Tensor]) -> Sequence[Tensor]:
        return work([tensor.to(self.device, non_blocking=True) for tensor in given])

    def _optimize(self, number: int, rate: float | Tensor) -> None:
        """Clip the gradients, move the parameters, forget the gradients."""
        torch.nn.utils.clip_grad_norm_(self.bert.parameters(), self.config.gradient_clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate if group["times"] == 1 else rate * group["times"]
                group["update"] = number
            optimizer.step()
            optimizer.zero_grad(set_to_none=is_distributed(group["params"][0]))  # else they stay where they are


class RecordedStep(EagerStep):
    """The same, recorded as CUDA graphs."""

    def __init__(
        self, bert: TextModel, config: TrainingConfig, device: torch.device, ranks: Ranks = SINGLE_PROCESS
    ) -> None:
        super().__init__(bert, config, device, ranks)
        self.optimizers = self._optimizers(recorded=True)
        self.round_up_to = 256  # a recording is of all shapes together, so they have to be fewer
        self.graphs = CudaGraphs(device)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with super().at_work(), self.graphs.at_work():
            yield

    def _run(self, kind: Hashable, work: Work, given: Sequence[Tensor]) -> Sequence[Tensor]:
        return self.graphs(kind, work, given)

    def _optimize(self, number: int, rate: float | Tensor) -> None:
        def work(given: Sequence[Tensor]) -> Sequence[Tensor]:
            super(RecordedStep, self)._optimize(number, given[0])
            return ()

        self.graphs(number % self.config.muon_every, work, [torch.tensor(rate).pin_memory()])


def step_for(bert: TextModel, config: TrainingConfig, device: torch.device, ranks: Ranks) -> EagerStep:
    """The fastest step that does what is asked for: neither dropout nor what shards exchange can be replayed."""
    dropping = any(module.p > 0 for module in bert.modules() if isinstance(module, torch.nn.Dropout))
    bf16_on_cuda = device.type == "cuda" and resolve(config.precision, device) == torch.bfloat16
    if config.compile and bf16_on_cuda and not dropping and not is_distributed(next(bert.parameters())):
        return RecordedStep(bert, config, device, ranks)
    return EagerStep(bert, config, device, ranks)


def keep_gradients_in_place(bert: TextModel, device: torch.device) -> None:
    """Give every parameter a gradient that stays where it is, to be added to and set to zero, never allocated anew.

    On a CPU the gradient of the token embeddings then arrives as the few rows of the batch and is added to its buffer;
    a fresh dense gradient of the whole table would cost more than the rest of a small update (docs/decisions.md).
    """
    bert.token_embedding.sparse = device.type == "cpu"
    for parameter in bert.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


@contextmanager
def compiled(bert: TextModel) -> Iterator[None]:
    """Inside, the methods of `bert` in which no token sees another are compiled, once for any number of tokens.

    Attention is left out: it is one kernel already, and would be compiled anew for every list of lengths.
    """
    parts: list[tuple[torch.nn.Module, str]] = [(bert.get_submodule("embeddings"), "forward")]
    parts += [(layer, "after_attention") for layer in bert.layers]
    parts += [(output, method) for output in bert.outputs for method in ("forward", "loss")]
    for module, method in parts:
        vars(module)[method] = torch.compile(getattr(module, method), dynamic=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\._inductor")  # about its own choices
            yield
    finally:
        for module, method in parts:
            del vars(module)[method]


def backward(
    bert: TextModel,
    update: list[TrainingBatch],
    dtype: torch.dtype,
    device: torch.device,
    ranks: Ranks = SINGLE_PROCESS,
    run: Run | None = None,
) -> Losses:
    """Add the gradients of one update; every labelled target of an output weighs the same, whichever micro-batch, and
    whichever rank, it is in. `run`: what computes a micro-batch; None: the device, at once."""
    counted = [sum(output.count(batch.targets[output.config.name]) for batch in update) for output in bert.outputs]
    counts = ranks.all_reduce(torch.tensor(counted, dtype=torch.float64, device=ranks.device)).tolist()
    shares = [output.config.loss_weight / max(1, count) for output, count in zip(bert.outputs, counts, strict=True)]
    weights = torch.tensor(shares, dtype=torch.float32, pin_memory=device.type == "cuda")
    losses = torch.zeros(len(counts), device=device)
    for batch in update:
        work = partial(forward_and_backward, bert, batch, dtype, device)
        given = [*tensors_of(batch), weights]
        if run is None:
            (found,) = work([tensor.to(device) for tensor in given])
        else:
            (found,) = run(shape_of(batch), work, given)
        losses += found
    summed = ranks.all_reduce(losses).unbind()
    names = [output.config.name for output in bert.outputs]
    return {name: (loss, int(count)) for name, loss, count in zip(names, summed, counts, strict=True)}


def forward_and_backward(
    bert: TextModel, batch: TrainingBatch, dtype: torch.dtype, device: torch.device, given: Sequence[Tensor]
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
