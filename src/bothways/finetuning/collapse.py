"""A training that has collapsed: whatever the text, the answer is the same. It is noticed and started anew.

Fine-tuning ends so now and then, by chance and more often at high rates (arXiv 2006.04884, section 4).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bothways.finetuning.config import ResolvedConfig
from bothways.inference.engine import Engine
from bothways.tasks.task import Target
from bothways.tokenizer import Encoding

RESTARTS = 2
"""At most so many; a third collapse is no chance."""
LOOKED_AT = 500
"""Training rows that are classified to find out."""


def collapsed_outputs(
    engine: Engine, encodings: Sequence[Encoding], targets: Mapping[str, Sequence[Target]]
) -> list[str]:
    """The outputs that give some of the training rows one answer only, by name. `targets`: by output, one a row."""
    count = min(LOOKED_AT, len(encodings))
    rows = np.random.default_rng(0).choice(len(encodings), count, replace=False)
    predictions = engine.run([encodings[row] for row in rows])
    return [
        task.name
        for task in engine.tasks
        if task.collapsed(
            [targets[task.name][row] for row in rows], [task.decide(p) for p in task.probabilities(predictions)]
        )
    ]


def restarted(config: ResolvedConfig, restarts: int) -> ResolvedConfig:
    """The settings after so many restarts: each has another seed and half the learning rate."""
    return replace(config, seed=(config.seed + restarts) % (1 << 32), learning_rate=config.learning_rate / 2**restarts)


def say_collapsed(outputs: Sequence[str], restarts: int) -> None:
    """A sentence on standard error. `restarts`: how many there were before."""
    names = " and ".join(map(repr, outputs))
    then = (
        "training starts anew with another seed and half the learning rate"
        if restarts < RESTARTS
        else f"so it did after {restarts} restarts, so look at the labels, or train with a smaller --learning-rate"
    )
    print(f"The training has collapsed: output {names} gives every text the same class; {then}.", file=sys.stderr)
