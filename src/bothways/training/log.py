"""What a training run has measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from bothways.errors import InputError
from bothways.model.text_model import TextModel
from bothways.training.distributed import Ranks, local_tensor


@dataclass
class TrainingLog:
    """What a run has measured."""

    updates: int = 0
    tokens: int = 0
    truncated: int = 0
    """Training texts that were longer than the model reads."""
    dropped: float = 0.0
    """Share of the tokens of all training texts that were not read."""
    restarts: int = 0
    """How often training started anew, since it had collapsed; the rest is of the last time."""
    best_update: int | None = None
    """The update whose weights were kept by early stopping."""
    followed: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """By metric that early stopping goes by: (update, what it was on the rows to evaluate on)."""
    seconds: float = 0.0
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """By output layer: (update, mean loss since the entry before)."""
    held_out: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    """By output layer: (update, loss, accuracy) on held-out text."""
    operations: float = 0.0
    """Floating-point operations of all matrix products; see `training.throughput`."""
    peak: float = 0.0
    """The most operations a second that the hardware was seen to do; 0: not measured."""

    def restore(self, measured: Mapping[str, Any]) -> None:
        """Go on with what a checkpoint has kept; the peak is that of today's hardware."""
        for name in {known.name for known in fields(self)} & measured.keys() - {"peak"}:
            setattr(self, name, measured[name])
        for series in ("losses", "held_out"):  # JSON knows no tuples
            setattr(self, series, {n: [tuple(e) for e in entries] for n, entries in measured[series].items()})

    def latest(self) -> dict[str, float]:
        """The newest figures, by name, for a line of progress."""
        figures = {f"{output}_loss": entries[-1][1] for output, entries in self.losses.items()}
        if self.peak:
            figures["of_peak"] = self.share_of_peak
        return figures | {"tokens_a_second": self.tokens_per_second}

    @property
    def tokens_per_second(self) -> float:
        """Tokens read and learned from in a second of wall time."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def share_of_peak(self) -> float:
        """Operations a second as a share of the peak; 0 if that was not measured."""
        return self.operations / self.seconds / self.peak if self.seconds and self.peak else 0.0


class RecentLosses:
    """Mean losses since they were last asked for, summed on the device so that no update waits for it."""

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


def require_finite(bert: TextModel, update: int, ranks: Ranks) -> None:
    """Raise InputError if a weight is no longer a number, which losses tell only in the update after."""
    finite = torch.stack([local_tensor(parameter.detach()).isfinite().all() for parameter in bert.parameters()])
    if ranks.any(not finite.all()):
        raise InputError(
            f"The weights are no longer numbers after {update:,} updates; train with a smaller --learning-rate."
        )
