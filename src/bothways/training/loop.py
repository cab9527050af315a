"""The only training loop. Pre-training and fine-tuning differ in the batches and output layers they bring."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from bothways.batch import TrainingBatch
from bothways.errors import InputError
from bothways.hardware import compiles_each_shape, default_device, keep_freed_memory, resolve
from bothways.model.bert import Bert
from bothways.progress import Progress
from bothways.training.checkpoint import Checkpoints, Stopped, asked_to_stop
from bothways.training.config import TrainingConfig
from bothways.training.cuda_graphs import CudaGraphs
from bothways.training.distributed import SINGLE_PROCESS, Ranks, local_tensor
from bothways.training.log import RecentLosses, TrainingLog
from bothways.training.optimization import optimizers_for, schedule
from bothways.training.prefetching import prefetched
from bothways.training.step import backward, compiled, keep_gradients_in_place
from bothways.training.throughput import training_operations


class Batches(Protocol):
    """Where training batches come from."""

    def __len__(self) -> int:
        """How many updates there are."""

    def update(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of one update: a pure function of `step`, so that a run can start anywhere."""


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
    ranks: Ranks = SINGLE_PROCESS,
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
    sharded = config.shard and ranks.world_size > 1
    if sharded:
        bert = ranks.shard(given)
    else:
        keep_gradients_in_place(bert, device)
    bert.train()
    compiling = config.compile and device.type == "cuda" and not sharded
    dropping = any(module.p > 0 for module in bert.modules() if isinstance(module, torch.nn.Dropout))
    every = config.muon_every or 1
    recorder = CudaGraphs(device) if compiling and dtype == torch.bfloat16 and not dropping else None
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
            update = [batch.rounded_up(reads, least=least) for batch in update]
        if device.type == "cuda":  # which reads pinned memory by itself, while the CPU goes on
            update = [batch.moved(Tensor.pin_memory) for batch in update]
        return update, tokens, operations

    def save() -> Path:
        assert checkpoints is not None
        recent.require_finite(log.updates)
        require_finite(bert, log.updates, ranks)
        measured = {**asdict(log), "recent_counts": recent.counts}
        return checkpoints.save(log.updates, bert, optimizers, recent.sums, measured, write=ranks.is_main)

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
            ranks.all_reduce_gradients(bert)
            rate = config.learning_rate * schedule(step, total=total, warmup=config.warmup)
            if recorder is None:
                move(step, rate)
            else:
                recorder(step % every, partial(recorded_move, step), [torch.tensor(rate).pin_memory()])

            log.updates = step + 1
            done = ranks.all_reduce(torch.tensor([tokens, operations], dtype=torch.float64, device=ranks.device))
            log.tokens += int(done[0])
            log.operations += float(done[1]) / ranks.world_size  # `peak` is that of one rank's hardware
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
                if ranks.any(ranks.is_main and checkpoints.due):
                    save()
    if sharded:
        ranks.gather(bert, given)
    given.eval()
    return log


def require_finite(bert: Bert, update: int, ranks: Ranks) -> None:
    """Raise InputError if a weight is no longer a number, which losses tell only in the update after."""
    finite = torch.stack([local_tensor(parameter.detach()).isfinite().all() for parameter in bert.parameters()])
    if ranks.any(not finite.all()):
        raise InputError(
            f"The weights are no longer numbers after {update:,} updates; train with a smaller --learning-rate."
        )
