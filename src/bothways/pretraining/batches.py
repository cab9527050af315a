"""Masked sentence pairs in batches: every update a pure function of (seed, update)."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import torch

from bothways.batch import UNLABELLED, PackedBatch, TrainingBatch
from bothways.corpus.shards import Corpus, ranges
from bothways.errors import InputError
from bothways.model.config import MASKED_LM, NEXT_SENTENCE
from bothways.pretraining.config import PretrainingConfig
from bothways.pretraining.masking import Masking
from bothways.pretraining.sentence_pairs import Pairs, SentencePairs
from bothways.randomness import uniform
from bothways.training.distributed import SINGLE_PROCESS, Ranks


def places(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Where each token stands: (which pair, which token of it), both (tokens,) int64."""
    return np.repeat(pairs.positions, pairs.lengths), ranges(np.zeros_like(pairs.lengths), pairs.lengths)


class Phase:
    """Updates whose pairs have the same length."""

    def __init__(
        self,
        corpus: Corpus,
        config: PretrainingConfig,
        begin: int,
        length: int,
        seed: int,
        documents: np.ndarray | None,
        ranks: Ranks,
    ) -> None:
        self.begin, self.length = begin, length
        """First update; tokens."""
        self.pairs = SentencePairs(
            corpus,
            sequence_length=length,
            random_share=0.5 if config.next_sentence else 0.0,
            seed=seed,
            documents=documents,
        )
        self.in_update = max(1, config.batch_tokens // length)
        """Pairs."""
        if self.in_update < ranks.world_size:
            raise InputError(
                f"An update of {config.batch_tokens} tokens has {self.in_update} pairs of {length}, too few for "
                f"{ranks.world_size} processes; ask for more --batch-tokens."
            )
        self.in_micro_batch = max(1, (config.micro_batch_tokens or config.batch_tokens) // length)
        """Pairs, at most."""


class PretrainingBatches:
    """Masked sentence pairs, made when they are needed: update `step` is a pure function of (seed, step)."""

    def __init__(
        self,
        corpus: Corpus,
        config: PretrainingConfig,
        documents: np.ndarray | None = None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        """`documents`: those to read; None: all. `ranks`: every one of them gets its own part of each update."""
        self.config, self.ranks = config, ranks
        self.masking = Masking(corpus.tokenizer, rate=config.masking_rate, whole_words=config.whole_words)
        ends = [round(config.steps * share) for share in accumulate(config.shares)]
        self.phases = [
            Phase(corpus, config, begin, length, config.seed + number, documents, ranks)
            for number, (begin, end, length) in enumerate(zip([0, *ends], ends, config.sequence_lengths, strict=False))
            if begin < end
        ]
        """One length after the other."""

    def __len__(self) -> int:
        return self.config.steps

    def phase(self, step: int) -> Phase:
        """The phase that update `step` belongs to."""
        return next(phase for phase in reversed(self.phases) if phase.begin <= step)

    def update(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of update `step`."""
        phase = self.phase(step)
        positions = (step - phase.begin) * phase.in_update + np.arange(phase.in_update)
        own = np.array_split(positions, self.ranks.world_size)[self.ranks.rank]
        most = -(-phase.in_update // self.ranks.world_size)
        parts = -(-most // phase.in_micro_batch)  # as many on every rank, since shards are gathered for each
        return [self.batch(phase.pairs, part) for part in np.array_split(own, parts)]

    def batch(self, of: SentencePairs, positions: np.ndarray) -> TrainingBatch:
        """The pairs at some positions, packed by length and masked.

        Of no positions it is a pair that counts for nothing, since every rank has to have something to compute.
        """
        if not len(positions):
            batch = self.batch(of, np.zeros(1, np.int64))
            return TrainingBatch(
                batch.inputs, {name: torch.full_like(t, UNLABELLED) for name, t in batch.targets.items()}
            )
        pairs = of.at(positions)
        # Chance belongs to each token of each pair, so that it does not matter which pairs share a batch.
        chance = uniform(of.seed, *places(pairs), draws=3, stream=2)
        masked = self.masking(pairs.token_ids, pairs.continues, chance)
        inputs = PackedBatch.of(masked.token_ids, pairs.segment_ids, pairs.lengths, masked.positions)
        targets = {MASKED_LM.name: torch.from_numpy(masked.targets)}
        if self.config.next_sentence:
            targets[NEXT_SENTENCE.name] = torch.from_numpy(pairs.labels)
        return TrainingBatch(inputs, targets)
