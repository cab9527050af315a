"""The only training loop. Pre-training and fine-tuning differ in the batches and output layers they bring."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from bothways.batch import TrainingBatch
from bothways.errors import InputError
from bothways.hardware import Precision, compiles_each_shape, computing_in, default_device, keep_freed_memory, resolve
from bothways.model.bert import Bert
from bothways.progress import Progress
from bothways.training.checkpoint import Checkpoints, Stopped, asked_to_stop
from bothways.training.distributed import ALONE, Ranks, own
from bothways.training.optimization import OptimizerName, optimizers_for, schedule
from bothways.training.recording import Recorder, shape_of, tensors_of, with_tensors
from bothways.training.rounding import rounded_up
from bothways.training.throughput import training_operations

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every training run has in common."""

    learning_rate: float
    """Peak of the learning rate."""
    warmup: float = 0.1
    """Share of all updates in which the learning rate rises; afterwards it falls linearly to zero."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; biases and norms do not decay."""
    optimizer: OptimizerName = "adamw"
    """adamw for everything (so is auto), or muon for the matrices of the encoder's layers and adamw for the rest."""
    muon_every: int = 1
    """Muon moves each matrix at every so many updates, so much farther: its cost does not depend on how few tokens an
    update has. 0: at every update."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient of an update."""
    micro_batch_tokens: int = 0
    """Most tokens in one forward pass; an update of more tokens gathers gradients from several. 0: 8,192 on a CPU,
    65,536 on CUDA."""
    precision: Precision = "auto"
    """Number format of matrix products: auto is bf16 where the machine is fast at it."""
    compile: bool = False
    """If it trains on CUDA: fuse what lies between matrix products (torch.compile) and, in bf16 without dropout, record
    updates as CUDA graphs. Worth the first half minute in long runs."""
    shard: bool = False
    """With several processes: share out weights, gradients and moments, for models too large for one device."""
    seed: int = 0
    """Decides fresh weights, order, masking and dropout."""

    def __post_init__(self) -> None:
        self.require(0 <= self.learning_rate <= 1, "learning_rate", "a number above 0 and at most 1")
        self.require(0 <= self.warmup < 1, "warmup", "a share of at least 0 and below 1")
        self.require(0 <= self.weight_decay <= 1, "weight_decay", "0 or more, at most 1")
        self.require(self.muon_every >= 0, "muon_every", "1 or more, or 0")
        self.require(self.gradient_clip > 0, "gradient_clip", "a number above 0")
        self.require(self.micro_batch_tokens >= 0, "micro_batch_tokens", "1 or more, or 0")
        self.require(0 <= self.seed < 1 << 32, "seed", "0 or more, below 2^32")

    @property
    def at_once(self) -> int:
        """Most tokens in one forward pass, on the device that training would choose."""
        return self.micro_batch_tokens or (65_536 if default_device().type == "cuda" else 8192)

    def require(self, holds: bool, setting: str, wanted: str) -> None:
        """Raise InputError, naming the flag, unless a setting makes sense (NaN never does)."""
        if not holds:
            flag = "--" + setting.replace("_", "-")
            raise InputError(f"{flag} is {getattr(self, setting)!r}; give {wanted}.")


class Batches(Protocol):
    """Where training batches come from."""

    def __len__(self) -> int:
        """How many updates there are."""

    def update(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of one update: a pure function of `step`, so that a run can start anywhere."""


@dataclass
class TrainingLog:
    """What a run has measured."""

    updates: int = 0
    tokens: int = 0
    truncated: int = 0
    """Training texts that were longer than the model reads."""
    seconds: float = 0.0
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """By output layer: (update, mean loss since the entry before)."""
    held_out: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    """By output layer: (update, loss, accuracy) on text kept aside."""
    operations: float = 0.0
    """Floating-point operations of all matrix products; see `training.throughput`."""
    peak: float = 0.0
    """The most operations a second that the hardware was seen to do; 0: not measured."""

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> TrainingLog:
        """The log that a checkpoint has kept."""
        known = {field.name: measured[field.name] for field in fields(cls)}
        for series in ("losses", "held_out"):  # JSON knows no tuples
            known[series] = {name: [tuple(e) for e in entries] for name, entries in known[series].items()}
        return cls(**known)

    @property
    def tokens_per_second(self) -> float:
        """Tokens read and learned from in a second of wall time."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def share_of_peak(self) -> float:
        """Operations a second as a share of the peak; 0 if that was not measured."""
        return self.operations / self.seconds / self.peak if self.seconds and self.peak else 0.0


def train(
    bert: Bert,
    batches: Batches,
    config: TrainingConfig,
    *,
    name: str = "training",
    device: torch.device | None = None,
    checkpoints: Checkpoints | None = None,
    after_update: Callable[[Bert, TrainingLog], None] | None = None,
    log_every: int = 25,
    peak: float = 0.0,
    ranks: Ranks = ALONE,
    quiet: bool = False,
) -> TrainingLog:
    """Train `bert` in place on all updates that `batches` has; the model ends on `device`, in evaluation mode.

    With `checkpoints` it goes on from the newest of them and writes new ones; asked to stop (SIGTERM) it writes one
    and raises `Stopped`. The weights at the end are the same, bit for bit, however often it was stopped or killed (on
    the same machine). `after_update(model as it is, log)` is called after each update. `peak`: the most operations a
    second of the hardware, to tell which share of it is used; 0: that is not told. `ranks`: the processes that share
    every update; `batches` has this one's part.
    """
    keep_freed_memory()
    device = ranks.device or device or default_device()
    dtype = resolve(config.precision, device)
    given = bert.to(device)
    sharded = config.shard and ranks.world > 1
    if sharded:
        bert = ranks.sharded(given)
    else:
        keep_gradients_in_place(bert, device)
    bert.train()
    compiling = config.compile and device.type == "cuda" and not sharded
    dropping = any(module.p > 0 for module in bert.modules() if isinstance(module, torch.nn.Dropout))
    every = config.muon_every or 1
    recorder = Recorder(device) if compiling and dtype == torch.bfloat16 and not dropping else None
    optimizers = optimizers_for(
        bert,
        config.optimizer,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        muon_every=every,
        recorded=recorder is not None,
    )
    log, total = TrainingLog(), len(batches)
    recent = RecentLosses(device)
    if checkpoints is not None:
        state = checkpoints.latest()
        ranks.require_same(
            "none" if state is None else f"{state.update} {state.digests}",
            f"newest checkpoint in {checkpoints.directory}",
            "share the directory, or copy it to every machine",
        )
        if state is not None:
            state.restore(bert, optimizers)
            log = TrainingLog.of(state.measured)
            recent.restore(state.recent, state.measured["recent_counts"])
        del state
    log.peak = peak
    begun, seconds_before = log.updates, log.seconds
    started = time.perf_counter()

    def move(update: int, rate: float | Tensor) -> None:
        torch.nn.utils.clip_grad_norm_(bert.parameters(), config.gradient_clip)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"], group["update"] = rate, update
            optimizer.step()
            optimizer.zero_grad(set_to_none=sharded)  # each parameter belongs to one of them

    def recorded_move(update: int, rate: Sequence[Tensor]) -> Sequence[Tensor]:
        move(update, rate[0])
        return ()

    def make(step: int) -> tuple[list[TrainingBatch], int, float]:
        update = batches.update(step)
        tokens = sum(len(batch.inputs.token_ids) for batch in update)
        operations = sum(training_operations(bert, batch.inputs) for batch in update)
        if recorder is not None or compiles_each_shape(device, dtype):
            reads = {output.config.name: output.config.reads for output in bert.outputs}
            least = 16 if recorder is None else 256  # a recording is of all shapes together, so they have to be fewer
            update = [rounded_up(batch, reads, least=least) for batch in update]
        if device.type == "cuda":  # which reads pinned memory by itself, while the CPU goes on
            update = [batch.moved(Tensor.pin_memory) for batch in update]
        return update, tokens, operations

    def save() -> Path:
        assert checkpoints is not None
        recent.require_finite(log.updates)
        require_finite(bert, log.updates, ranks)
        measured = {**asdict(log), "recent_counts": recent.counts}
        return checkpoints.save(log.updates, bert, optimizers, recent.sums, measured, write=ranks.first)

    with (
        Progress(name, total, begun=begun, quiet=quiet) as progress,
        asked_to_stop(checkpoints is not None) as stop,
        compiled(bert) if compiling else nullcontext(),
        recorder.at_work() if recorder is not None else nullcontext(),
    ):
        # A CPU that trains has one thread to spare; a CUDA device is faster than one thread makes batches.
        threads = {"makers": 4, "ahead": 8} if device.type == "cuda" else {}
        steps = range(begun, total)
        for step, (update, tokens, operations) in zip(steps, prefetched(make, steps, **threads), strict=True):
            torch.manual_seed(config.seed * 1_000_003 + step)  # dropout, too, is a pure function of the step
            recent.add(backward(bert, update, dtype, device, ranks, recorder))
            ranks.sum_gradients(bert)
            rate = config.learning_rate * schedule(step, total=total, warmup=config.warmup)
            if recorder is None:
                move(step, rate)
            else:
                recorder(step % every, partial(recorded_move, step), [torch.tensor(rate).pin_memory()])

            log.updates = step + 1
            done = ranks.sums(torch.tensor([tokens, operations], dtype=torch.float64, device=ranks.device))
            log.tokens += int(done[0])
            log.operations += float(done[1]) / ranks.world  # `peak` is that of one rank's hardware
            if log.updates % log_every == 0 or log.updates == total:
                recent.require_finite(log.updates)  # asks the device, so that the seconds below are those of its work
                require_finite(bert, log.updates, ranks)
                for output, loss in recent.means().items():
                    log.losses.setdefault(output, []).append((log.updates, loss))
            log.seconds = seconds_before + time.perf_counter() - started
            last = {f"{output}_loss": entries[-1][1] for output, entries in log.losses.items()}
            if peak:
                last["of_peak"] = log.share_of_peak
            progress.update(log.updates, **last, tokens_a_second=log.tokens_per_second)
            if after_update is not None:
                with torch.compiler.set_stance("force_eager") if compiling else nullcontext():
                    after_update(bert, log)
                bert.train()
            if checkpoints is not None and log.updates < total:
                if ranks.any(stop.is_set()):
                    raise Stopped(f"Stopped after {log.updates:,} of {total:,} updates; {save()} is the checkpoint.")
                if ranks.any(ranks.first and checkpoints.due):
                    save()
    if sharded:
        ranks.gather(bert, given)
    given.eval()
    return log


def require_finite(bert: Bert, update: int, ranks: Ranks) -> None:
    """Raise InputError if a weight is no longer a number, which losses tell only in the update after."""
    finite = torch.stack([own(parameter.detach()).isfinite().all() for parameter in bert.parameters()])
    if ranks.any(not finite.all()):
        raise InputError(
            f"The weights are no longer numbers after {update:,} updates; train with a smaller --learning-rate."
        )


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


def prefetched(make: Callable[[int], Made], steps: Iterable[int], *, makers: int = 1, ahead: int = 1) -> Iterator[Made]:
    """What `make` makes of each step, in order, the next ones made by other threads while one is used."""
    with ThreadPoolExecutor(makers) as pool:
        left = iter(steps)
        coming = deque(pool.submit(make, step) for step in islice(left, ahead))
        while coming:
            made = coming.popleft().result()
            coming.extend(pool.submit(make, step) for step in islice(left, 1))
            yield made


def backward(
    bert: Bert,
    update: list[TrainingBatch],
    dtype: torch.dtype,
    device: torch.device,
    ranks: Ranks = ALONE,
    recorder: Recorder | None = None,
) -> Mapping[str, tuple[Tensor, int]]:
    """Add the gradients of one update; every labelled target of an output weighs the same, whichever micro-batch, and
    whichever rank, it is in. Returns by output: (summed loss, number of targets), over all ranks."""
    names = [output.config.name for output in bert.outputs]
    counted = [sum(output.count(batch.targets[output.config.name]) for batch in update) for output in bert.outputs]
    counts = ranks.sums(torch.tensor(counted, dtype=torch.float64, device=ranks.device)).tolist()
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
        name: (loss, int(count)) for name, loss, count in zip(names, ranks.sums(losses).unbind(), counts, strict=True)
    }


def forward_and_backward(
    bert: Bert, batch: TrainingBatch, dtype: torch.dtype, device: torch.device, given: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Add the gradients of a micro-batch whose tensors are `given`, and last what each output's loss is to be
    multiplied with, (outputs,). Returns the summed losses, (outputs,)."""
    *tensors, weights = given
    batch = with_tensors(batch, tensors)
    with computing_in(dtype, device):
        logits = bert(batch.inputs)
    losses = torch.stack(
        [output.loss(logits[output.config.name], batch.targets[output.config.name]) for output in bert.outputs]
    )
    (losses * weights).sum().backward()
    return (losses.detach(),)


class RecentLosses:
    """Mean losses since they were last asked for, summed on the device so that nobody waits for it each update."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def restore(self, sums: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        """Go on from sums and counts of a checkpoint."""
        self.sums = {name: loss.to(self._device) for name, loss in sums.items()}
        self.counts = dict(counts)

    def add(self, losses: Mapping[str, tuple[Tensor, int]]) -> None:
        """Add the summed losses of one update."""
        for name, (loss, count) in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=self._device)) + loss
            self.counts[name] = self.counts.get(name, 0) + count

    def require_finite(self, update: int) -> None:
        """Raise InputError if a loss is no longer a number: what comes after that is lost."""
        for name, loss in self.sums.items():
            if not torch.isfinite(loss):
                raise InputError(
                    f"The loss of {name!r} is no longer a number after {update:,} updates; train with a smaller "
                    f"--learning-rate."
                )

    def means(self) -> dict[str, float]:
        """The means, by output; counting starts anew."""
        means = {name: float(self.sums[name]) / max(1, self.counts[name]) for name in self.sums}
        self.sums.clear()
        self.counts.clear()
        return means
