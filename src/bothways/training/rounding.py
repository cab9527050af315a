"""Batches in few shapes.

What multiplies bf16 matrices on a CPU is code made for one shape, which takes longer to make than to run, and a CUDA
graph is recorded for one shape. So batches are rounded up with filler that nothing looks at (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Mapping

from bothways.batch import TrainingBatch, filled
from bothways.model.config import UNLABELLED, Reads


def rounded_up(batch: TrainingBatch, reads: Mapping[str, Reads], *, least: int) -> TrainingBatch:
    """The same batch with filler at its end, which counts for nothing; see `PackedBatch.rounded_up`.

    `reads`: what each output layer reads, by its name, which tells how long its targets are.
    """
    inputs = batch.inputs.rounded_up(least)
    sequences, masked = len(inputs.sequence_starts) - 1, inputs.masked_positions
    sizes = {
        "first": sequences,
        "mean": sequences,
        "tokens": len(inputs.token_ids),
        "masked": 0 if masked is None else len(masked),
    }
    return TrainingBatch(
        inputs,
        {
            name: filled(target, sizes[reads[name]], float("nan") if target.is_floating_point() else UNLABELLED)
            for name, target in batch.targets.items()
        },
    )
