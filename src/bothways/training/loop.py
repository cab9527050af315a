"""The only training loop. Pre-training and fine-tuning differ in the batches and output layers they bring.

batches ─▶ step(number, update, rate) ─▶ losses ─▶ log ─▶ checkpoint
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from bothways.batch import TrainingBatch
from bothways.errors import Stopped
from bothways.hardware import default_device, keep_freed_memory
from bothways.model.text_model import Model
from bothways.progress import Progress
from bothways.randomness import keeping_torch_state
from bothways.training.checkpoint import Checkpoints, asked_to_stop
from bothways.training.config import TrainingConfig
from bothways.training.distributed import SINGLE_PROCESS, Ranks
from bothways.training.log import RecentLosses, TrainingLog, require_finite
from bothways.training.optimization import schedule
from bothways.training.prefetching import prefetched
from bothways.training.step import EagerStep, step_for
from bothways.training.throughput import training_operations


class Batches(Protocol):
    """Where training batches come from."""

    def __len__(self) -> int:
        """How many updates there are."""

    def update(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of one update: a pure function of `step`, so that a run can start anywhere."""


AfterUpdate = Callable[[Any, TrainingLog], bool | None]
"""Called after each update with the model as it is; True ends the training."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run tells of itself, and how often."""

    name: str = "training"
    """Before the progress."""
    log_every: int = 25
    """Updates between entries of the log."""
    peak: float = 0.0
    """The most operations a second of the hardware, to tell which share of it is used; 0: that is not told."""
    quiet: bool = False
    """No progress on standard error."""


def train(
    bert: Model,
    batches: Batches,
    config: TrainingConfig,
    *,
    device: torch.device | None = None,
    checkpoints: Checkpoints | None = None,
    after_update: AfterUpdate | None = None,
    ranks: Ranks = SINGLE_PROCESS,
    report: Report = Report(),
) -> TrainingLog:
    """Train `bert` in place on all updates that `batches` has; the model ends on `device`, in evaluation mode.

    With `checkpoints` it goes on from the newest of them and writes new ones; asked to stop (SIGTERM) it writes one
    and raises `Stopped`. The weights at the end are the same, bit for bit, however often it was stopped or killed (on
    the same machine). `after_update(model as it is, log)` is called after each update; True, which it has to say on all
    `ranks`, ends the training. `ranks`: the processes that share every update; `batches` has this one's part. PyTorch's
    random state is left as it was.
    """
    keep_freed_memory()
    device = ranks.device or device or default_device()
    whole = bert.to(device)
    sharded = config.shard and ranks.world_size > 1
    trained = ranks.shard(whole) if sharded else whole
    step = step_for(trained.train(), config, device, ranks)
    log, recent = TrainingLog(peak=report.peak), RecentLosses(device)
    if checkpoints is not None:
        checkpoints.restore(trained, step.optimizers, log, recent, ranks)
    loop = _Loop(step, batches, log, recent, checkpoints, after_update, report)
    with keeping_torch_state(device), step.at_work():
        loop.run()
    if sharded:
        ranks.gather(trained, whole)
    whole.eval()
    return log


class Prepared(NamedTuple):
    """An update as the step wants it."""

    batches: list[TrainingBatch]
    tokens: int
    operations: float


class _Loop:
    """`train`, once everything is in place."""

    def __init__(
        self,
        step: EagerStep,
        batches: Batches,
        log: TrainingLog,
        recent: RecentLosses,
        checkpoints: Checkpoints | None,
        after_update: AfterUpdate | None,
        report: Report,
    ) -> None:
        self.step, self.batches, self.log, self.recent = step, batches, log, recent
        self.checkpoints, self.after_update, self.report = checkpoints, after_update, report
        self.bert, self.ranks, self.total = step.bert, step.ranks, len(batches)

    def run(self) -> None:
        """All updates that are left."""
        config, log, before = self.step.config, self.log, self.log.seconds
        started = time.perf_counter()
        # A CPU that trains has one thread to spare; a CUDA device is faster than one thread makes batches.
        threads = {"makers": 4, "ahead": 8} if self.step.device.type == "cuda" else {}
        left = range(log.updates, self.total)
        with (
            Progress(self.report.name, self.total, begun=log.updates, quiet=self.report.quiet) as progress,
            asked_to_stop(self.checkpoints is not None) as stop,
        ):
            for number, update in zip(left, prefetched(self.prepare, left, **threads), strict=True):
                torch.manual_seed(config.seed * 1_000_003 + number)  # dropout, too, is a pure function of the update
                rate = config.learning_rate * schedule(number, total=self.total, warmup=config.warmup)
                self.recent.add(self.step(number, update.batches, rate))
                self.count(number + 1, update)
                log.seconds = before + time.perf_counter() - started
                progress.update(log.updates, **log.latest())
                if self.call_back():
                    break
                if self.checkpoints is not None and log.updates < self.total:
                    self.keep(self.checkpoints, stop.is_set())

    def prepare(self, number: int) -> Prepared:
        """The batches of an update; other threads call this while the model trains on the one before."""
        update = self.batches.update(number)
        tokens = sum(len(batch.inputs.token_ids) for batch in update)
        operations = sum(training_operations(self.bert, batch.inputs) for batch in update)
        if self.step.round_up_to is not None:
            reads = {output.config.name: output.config.reads for output in self.bert.outputs}
            update = [batch.rounded_up(reads, least=self.step.round_up_to) for batch in update]
        if self.step.device.type == "cuda":  # which reads pinned memory by itself, while the CPU goes on
            update = [batch.moved(Tensor.pin_memory) for batch in update]
        return Prepared(update, tokens, operations)

    def count(self, updates: int, update: Prepared) -> None:
        """Note what has been done in the log."""
        log = self.log
        log.updates = updates
        counted = torch.tensor([update.tokens, update.operations], dtype=torch.float64, device=self.ranks.device)
        tokens, operations = self.ranks.all_reduce(counted).tolist()
        log.tokens += int(tokens)
        log.operations += operations / self.ranks.world_size  # `peak` is that of one rank's hardware
        if updates % self.report.log_every == 0 or updates == self.total:
            # Asks the device, so that the seconds noted next are those of its work.
            self.recent.require_finite(updates)
            require_finite(self.bert, updates, self.ranks)
            for output, loss in self.recent.means().items():
                log.losses.setdefault(output, []).append((updates, loss))

    def call_back(self) -> bool:
        """Have the caller look at the model. Returns whether it has seen enough."""
        if self.after_update is None:
            return False
        with torch.compiler.set_stance("force_eager") if self.step.compiles else nullcontext():
            enough = self.after_update(self.bert, self.log)
        self.bert.train()
        return bool(enough)

    def keep(self, checkpoints: Checkpoints, asked: bool) -> None:
        """Write a checkpoint if it is time, or, if the run was asked to stop, write one and stop."""
        stopping = self.ranks.any(asked)
        if not stopping and not self.ranks.any(self.ranks.is_main and checkpoints.due):
            return
        updates = self.log.updates
        self.recent.require_finite(updates)
        require_finite(self.bert, updates, self.ranks)
        path = checkpoints.save(self.bert, self.step.optimizers, self.log, self.recent, write=self.ranks.is_main)
        if stopping:
            raise Stopped(f"Stopped after {updates:,} of {self.total:,} updates; {path} is the checkpoint.")
