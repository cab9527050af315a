"""Labelled texts in batches: every update a pure function of (seed, update)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bothways.batch import PackedBatch, TrainingBatch
from bothways.batching import by_length, shuffled
from bothways.finetuning.config import FinetuningConfig, within
from bothways.model.bert import Bert
from bothways.tables.table import Table
from bothways.tasks import Task
from bothways.tasks.task import Target
from bothways.tokenizer import Encoding, Tokenizer

SAMPLE = 1000
"""Of so many rows the lengths tell what share of all is long."""


def share_of_long(config: FinetuningConfig, bert: Bert, tokenizer: Tokenizer, table: Table) -> float:
    """Which share of the texts of a table is longer than the encoder reads at once; 0 where that decides nothing."""
    if config.long_texts is not None or table.columns.pretokenized or not len(table):
        return 0.0
    config, _ = within(config, bert.config)
    longest = config.max_length or bert.config.longest
    rows = np.linspace(0, len(table) - 1, min(len(table), SAMPLE), dtype=np.int64)
    texts, pairs = ([side[i] for i in rows] if side is not None else None for side in (table.texts, table.pairs))
    assert texts is not None, "there is always a column of texts"
    return float(np.mean([e.dropped > 0 for e in tokenizer.encode_batch(texts, pairs, max_length=longest)]))


class Examples:
    """Encoded texts with their targets, handed out in shuffled batches of like length."""

    def __init__(
        self,
        encodings: Sequence[Encoding],
        targets: dict[str, Sequence[Target]],
        tasks: Sequence[Task],
        *,
        epochs: int,
        batch_size: int,
        micro_batch_tokens: int,
        seed: int,
    ) -> None:
        """`targets`: by output, one for each text. `epochs`: how often each text is seen. `batch_size`: texts in an
        update, on average. `micro_batch_tokens`: most tokens in a forward pass."""
        self.encodings, self.targets, self.tasks = encodings, targets, tasks
        self.micro_batch_tokens = micro_batch_tokens
        lengths = np.array([len(encoding) for encoding in encodings])
        self.lengths = lengths
        # A text may be longer than the mean batch, so the budget is never below the longest.
        budget = max(int(lengths.mean() * batch_size), int(lengths.max()))
        plans = [shuffled(lengths, budget, seed=seed, epoch=epoch) for epoch in range(epochs)]
        self.plan = [batch for plan in plans for batch in plan]
        self.epoch_ends = np.cumsum([len(plan) for plan in plans]).tolist()
        """How many updates there are to the end of each epoch."""

    def __len__(self) -> int:
        return len(self.plan)

    def update(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of update `step`."""
        rows = self.plan[step]
        return [self.batch(rows[part]) for part in by_length(self.lengths[rows], self.micro_batch_tokens)]

    def batch(self, rows: np.ndarray) -> TrainingBatch:
        """Some rows, packed, with their targets."""
        encodings = [self.encodings[i] for i in rows]
        targets = {task.name: task.tensor([self.targets[task.name][i] for i in rows], encodings) for task in self.tasks}
        return TrainingBatch(PackedBatch.pack(encodings), targets)
