"""What computes the logits of a batch; the engine asks nothing else of it."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Protocol

import torch
from torch import Tensor

from bothways.batch import PackedBatch, Reads
from bothways.hardware import (
    NumberFormat,
    compiles_each_shape,
    cores,
    default_device,
    keep_freed_memory,
    number_format,
)
from bothways.inference.kernels import fits, with_kernels
from bothways.inference.prepared import prepared
from bothways.model.bert import Bert


class Backend(Protocol):
    """Packed batches in, logits out. Threads may share one."""

    precision: NumberFormat
    """In what it multiplies matrices."""
    side_by_side: int
    """How many batches it computes at a time, each on a core of its own; 1: one after the other."""

    def logits(self, batch: PackedBatch) -> Mapping[str, Tensor]:
        """By output layer: (rows, width) float32 on the CPU, a row for each sequence, or token, that it reads."""

    def representation(self, batch: PackedBatch, reads: Reads) -> Tensor:
        """(rows, hidden) float32 on the CPU: what output layers see that read `reads`."""


class TorchBackend:
    """The model in PyTorch, its encoder in our own kernels where there are some (`inference.kernels`), in the number
    format that the machine is fast at."""

    def __init__(
        self,
        bert: Bert,
        outputs: Collection[str],
        *,
        precision: NumberFormat | None = None,
        device: torch.device | None = None,
    ) -> None:
        """`outputs`: the output layers to compute. `bert` must not be trained further, since the backend may share
        some of its weights."""
        keep_freed_memory()
        self.device = device or default_device()
        known, integers = bert.config.int8, fits(bert.config.encoder)
        self.precision = number_format(
            precision, self.device, integers=integers, int8_agrees=known is not None and known.enough
        )
        """The number format of its matrix products."""
        self.outputs = outputs
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        if self.device.type == "cpu" and self.precision != "bf16":
            self.bert = with_kernels(bert, self.precision) if integers else prepared(bert)
        else:
            self.bert = copy.deepcopy(bert).to(self.device).eval().requires_grad_(False)
            # Only the encoder is worth a faster format; output layers are small, and scores deserve their digits.
            self.bert.embeddings.to(dtype)
            self.bert.encoder.to(dtype)
        self.side_by_side = cores() if self.device.type == "cpu" else 1
        self.rounds_up = compiles_each_shape(self.device, dtype)

    @torch.inference_mode()
    def logits(self, batch: PackedBatch) -> dict[str, Tensor]:
        """See `Backend`."""
        return {
            name: logits[: batch.size(self.bert.output(name).config.reads)].float().cpu()
            for name, logits in self.bert(self._placed(batch), only=self.outputs).items()
        }

    @torch.inference_mode()
    def representation(self, batch: PackedBatch, reads: Reads) -> Tensor:
        """See `Backend`."""
        return self.bert.represent(self._placed(batch), {reads})[reads][: batch.size(reads)].float().cpu()

    def _placed(self, batch: PackedBatch) -> PackedBatch:
        """The batch on the device, in a shape that it is fast at."""
        placed = batch.to(self.device)
        return placed.rounded_up() if self.rounds_up else placed
