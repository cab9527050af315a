"""Held-out documents: how well the output layers do on text that was never read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from bothways.corpus.shards import Corpus
from bothways.errors import InputError
from bothways.hardware import autocast
from bothways.model.bert import Bert
from bothways.pretraining.batches import PretrainingBatches
from bothways.pretraining.config import PretrainingConfig


class HeldOut:
    """Held-out text, masked once and for all: how well the output layers do on what was never read."""

    PAIRS, TOKENS = 512, 8192

    def __init__(self, corpus: Corpus, config: PretrainingConfig, documents: np.ndarray) -> None:
        config = replace(config, sequence_lengths=(config.main_length,), length_shares=None)
        batches = PretrainingBatches(corpus, config, documents)
        pairs = batches.phases[0].pairs
        count = min(self.PAIRS, pairs.in_epoch)
        at_once = max(1, self.TOKENS // config.main_length)
        parts = np.array_split(np.arange(count), -(-count // at_once))
        self.batches = [batches.batch(pairs, part) for part in parts]

    @torch.no_grad()
    def evaluate(self, bert: Bert, dtype: torch.dtype, device: torch.device) -> dict[str, tuple[float, float]]:
        """By output layer: (loss, accuracy)."""
        bert.eval()
        losses, right, counts = ({output.config.name: 0.0 for output in bert.outputs} for _ in range(3))
        for batch in self.batches:
            batch = batch.to(device)
            with autocast(dtype, device):
                logits = bert(batch.inputs)
            for output in bert.outputs:
                name, targets = output.config.name, batch.targets[output.config.name]
                losses[name] += float(output.loss(logits[name], targets))
                right[name] += int((logits[name].argmax(-1) == targets).sum())
                counts[name] += output.count(targets)
        return {name: (losses[name] / max(1, n), right[name] / max(1, n)) for name, n in counts.items()}


def split_documents(corpus: Corpus, config: PretrainingConfig) -> tuple[np.ndarray, np.ndarray]:
    """(documents to read, documents held out), spread evenly over the corpus; of fewer than 200 none is held out."""
    everything = np.arange(corpus.documents)
    count = min(500, int(corpus.documents * config.held_out))
    if count < 2:
        return everything, everything[:0]
    if corpus.documents - count < 2:
        raise InputError(
            f"--held-out is {config.held_out:g}, which leaves {corpus.documents - count} of {corpus.documents:,} "
            f"documents to read; give a smaller share."
        )
    held_out = np.linspace(0, corpus.documents - 1, count).astype(np.int64)
    return np.setdiff1d(everything, held_out), held_out
