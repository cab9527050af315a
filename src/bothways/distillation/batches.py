"""The transfer set in batches: every update a pure function of (seed, update)."""

from __future__ import annotations

import numpy as np
import torch

from bothways.batch import PackedBatch, TrainingBatch
from bothways.batching import by_length, mixed, shuffled
from bothways.distillation.config import ResolvedConfig
from bothways.distillation.teacher import Objective
from bothways.distillation.transfer_set import TransferSet
from bothways.model.config import MASKED_LM
from bothways.pretraining.masking import Masking
from bothways.randomness import uniform

LARGE = 32_768
"""Tokens in an update from which on it has texts of every length: enough to be sorted, and recordings on CUDA want
updates that are alike."""


class DistillationBatches:
    """Texts in shuffled batches of like length, hidden words in some of them, with what the teacher says of the texts
    as they were."""

    def __init__(
        self,
        transfer_set: TransferSet,
        rows: np.ndarray,
        objective: Objective,
        masking: Masking,
        config: ResolvedConfig,
    ) -> None:
        """`rows`: the texts to learn from."""
        self.transfer_set, self.objective, self.masking, self.config = transfer_set, objective, masking, config
        self.continues = masking.continues
        self.plan: list[np.ndarray] = []
        """The texts of each update."""
        self.epochs = 0
        lengths = transfer_set.lengths[rows]
        arrange = shuffled if config.batch_tokens < LARGE else mixed
        while self.epochs < config.epochs if config.steps is None else len(self.plan) < config.steps:
            batches = arrange(lengths, config.batch_tokens, seed=config.seed, epoch=self.epochs)
            self.plan += [rows[batch] for batch in batches]
            self.epochs += 1
        del self.plan[config.steps or len(self.plan) :]

    def __len__(self) -> int:
        return len(self.plan)

    def update(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of update `step`."""
        rows = self.plan[step]
        parts = by_length(self.transfer_set.lengths[rows], self.config.micro_batch_tokens)
        return [self.batch(rows[part], step) for part in parts]

    def batch(self, rows: np.ndarray, step: int) -> TrainingBatch:
        """Some texts, packed, of which update `step` hides words, with their targets."""
        ids, segments, lengths = self.transfer_set.packed(rows)
        targets = dict(self.objective.targets(rows))
        if not self.config.masked_weight:
            return TrainingBatch(PackedBatch.of(ids, segments, lengths), targets)
        # Chance belongs to each token of each text, so that it does not matter which texts share a batch.
        steps = np.full(len(rows), step)
        seed = self.config.seed
        hides = uniform(seed, rows, steps, draws=1, stream=4)[0] < self.config.masked_texts
        token = np.arange(len(ids)) - np.repeat(lengths.cumsum() - lengths, lengths)
        place = np.repeat(rows, lengths), np.repeat(steps, lengths), token
        chance = uniform(seed, *place, draws=3, stream=5)
        chance[0, ~np.repeat(hides, lengths)] = 1.0  # which is never chosen
        masked = self.masking(ids, self.continues[ids], chance)
        targets[MASKED_LM.name] = torch.from_numpy(masked.targets)
        return TrainingBatch(PackedBatch.of(masked.token_ids, segments, lengths, masked.positions), targets)
