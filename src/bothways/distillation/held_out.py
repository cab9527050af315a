"""Held-out texts: how near the student comes to its teacher where it has not learned."""

from __future__ import annotations

import numpy as np
import torch

from bothways.batch import PackedBatch, TrainingBatch
from bothways.batching import by_length
from bothways.distillation.teacher import Objective
from bothways.distillation.transfer_set import TransferSet
from bothways.hardware import autocast
from bothways.model.bert import Bert

MOST, TOKENS = 1000, 8192
"""Texts held out, and tokens in a batch of them, at most."""


class HeldOut:
    """Some texts as they are, with what the teacher says of them."""

    def __init__(self, transfer_set: TransferSet, rows: np.ndarray, objective: Objective) -> None:
        parts = [rows[part] for part in by_length(transfer_set.lengths[rows], TOKENS)]
        self.batches = [
            TrainingBatch(PackedBatch.of(*transfer_set.packed(part)), objective.targets(part)) for part in parts
        ]

    @torch.no_grad()
    def evaluate(self, bert: Bert, dtype: torch.dtype, device: torch.device) -> dict[str, tuple[float, float]]:
        """By output layer that learns from the teacher: (loss, agreement), both a mean over texts."""
        bert.eval()
        sums: dict[str, np.ndarray] = {}
        for batch in self.batches:
            batch = batch.to(device)
            with autocast(dtype, device):
                logits = bert(batch.inputs, only=batch.targets)
            for name, answers in batch.targets.items():
                output, found = bert.output(name), logits[name].float()
                measured = [
                    float(output.loss(found, answers)),
                    float(output.agreement(found, answers).sum()),
                    len(found),
                ]
                sums[name] = sums.get(name, np.zeros(3)) + measured
        return {name: (float(loss / n), float(agreed / n)) for name, (loss, agreed, n) in sums.items()}


def split(transfer_set: TransferSet, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(texts to learn from, texts held out), spread evenly; of fewer than 200 none is held out."""
    everything = np.arange(len(transfer_set.lengths))
    count = min(MOST, int(len(everything) * share)) if len(everything) >= 200 else 0
    held_out = np.unique(np.linspace(0, len(everything) - 1, count).astype(np.int64))
    return np.setdiff1d(everything, held_out), held_out
