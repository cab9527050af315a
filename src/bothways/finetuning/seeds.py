"""Several trainings that differ in their seed: how much of a figure is chance, and the best of them kept."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bothways.errors import InputError
from bothways.finetuning.config import FinetuningConfig
from bothways.finetuning.run import Finetuned, Training
from bothways.tasks import tasks_of
from bothways.training.config import SEEDS


@dataclass(frozen=True)
class Seeds:
    """A strategy of `finetune`: `number` trainings, from the configured seed on, all evaluated on the same rows.

    The best of them (`goodness`) is kept; its metrics gain `"seeds"`: mean, standard deviation (of n - 1) and values of
    each metric. One that is the best of several is better than the next would be, so the means are what to report.
    """

    number: int

    def __post_init__(self) -> None:
        if self.number < 1:
            raise InputError(f"--seeds is {self.number}; give 1 or more.")

    def __call__(self, training: Training, config: FinetuningConfig) -> Finetuned:
        """Raises InputError for seeds that would be too large."""
        if config.seed + self.number > SEEDS:
            raise InputError(f"--seeds {self.number} from --seed {config.seed} on go beyond 2^32; begin lower.")
        used = range(config.seed, config.seed + self.number)
        best: Finetuned | None = None
        measured = []
        for nth, seed in enumerate(used, start=1):
            print(f"Training {nth} of {self.number}, seed {seed}", file=sys.stderr)
            done = training(replace(config, seed=seed))
            measured.append(done.metrics)
            if best is None or goodness(done) > goodness(best):
                best = done
        assert best is not None
        best.metrics["seeds"] = summary(used, measured) | {"kept": best.metrics["training"]["settings"]["seed"]}
        return best


def goodness(done: Finetuned) -> float:
    """How good a classifier is on the rows to evaluate on: the mean over its outputs of the metric that each kind is
    chosen by (`Task.chosen_by`). Without such rows: how little it errs in training."""
    outputs = done.metrics["outputs"]
    found = [task.goodness(outputs[task.name]) for task in tasks_of(done.bert.config.outputs) if task.name in outputs]
    return float(np.mean(found)) if found else -sum(entries[-1][1] for entries in done.log.losses.values())


def summary(seeds: Sequence[int], measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`{"seeds": [...], "outputs": {NAME: {METRIC: {"mean", "deviation", "values"}}}}`"""

    def over(values: list[float]) -> dict[str, Any]:
        return {
            "mean": float(np.mean(values)),
            "deviation": float(np.std(values, ddof=len(values) > 1)),
            "values": values,
        }

    return {
        "seeds": list(seeds),
        "outputs": {
            name: {
                metric: over([one["outputs"][name][metric] for one in measured])
                for metric, value in figures.items()
                if isinstance(value, float)
            }
            for name, figures in measured[0]["outputs"].items()
        },
    }
