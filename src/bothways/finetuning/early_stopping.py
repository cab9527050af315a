"""Early stopping: rows that are not trained on are evaluated after every epoch, and the best weights are kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bothways.errors import InputError
from bothways.evaluation.evaluate import evaluate
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.tables.table import Table
from bothways.tokenizer import Tokenizer
from bothways.training.log import TrainingLog
from bothways.training.loop import AfterUpdate

PATIENCE = 3
"""Epochs without a better one after which no more is trained."""


class EarlyStopping:
    """What the training loop calls after each update (`after_update`); `restore` puts back the best weights."""

    def __init__(
        self,
        metric: str,
        dev: Table,
        tokenizer: Tokenizer,
        *,
        epoch_ends: Collection[int],
        finish: Callable[[Bert], None],
    ) -> None:
        """`metric`: its name in metrics.json. `dev`: rows to evaluate on. `epoch_ends`: after which updates. `finish`:
        what is done to a model when training ends."""
        self.metric, self.dev, self.tokenizer = metric, dev, tokenizer
        self.epoch_ends, self.finish = set(epoch_ends), finish
        self.sign = -1 if metric.endswith(("_error", "_loss")) else 1
        """Larger is better, or smaller."""
        self.history: list[tuple[int, float]] = []
        """(update, the metric), an entry each epoch."""
        self.best: dict[str, Tensor] = {}
        """The weights of the best epoch so far, finished."""
        self.best_update = 0

    def value(self, bert: Bert, rows: Table | None = None) -> float:
        """The metric on `rows`, else on the rows to evaluate on; of several outputs that have it the mean.

        Raises InputError if none has it.
        """
        outputs: Mapping[str, Mapping[str, Any]] = evaluate(Engine(bert, self.tokenizer), [rows or self.dev])["outputs"]
        found = [figures[self.metric] for figures in outputs.values() if self.metric in figures]
        if not found:
            known = {n for figures in outputs.values() for n, v in figures.items() if isinstance(v, float)}
            raise InputError(
                f"--early-stopping {self.metric!r} is measured for no output; choose one of {', '.join(sorted(known))}."
            )
        return float(np.mean(found))

    def __call__(self, bert: Bert, log: TrainingLog) -> bool:
        """Evaluate if an epoch has ended. Returns whether there was no better one for `PATIENCE` epochs."""
        if log.updates not in self.epoch_ends:
            return False
        candidate = copy.deepcopy(bert).eval()
        self.finish(candidate)
        value = self.value(candidate)
        if all(self.sign * value > self.sign * earlier for _, earlier in self.history):
            self.best, self.best_update = candidate.state_dict(), log.updates
        self.history.append((log.updates, value))
        return sum(update > self.best_update for update, _ in self.history) >= PATIENCE

    def restore(self, bert: Bert) -> None:
        """Put the weights of the best epoch back."""
        bert.load_state_dict(self.best)


def one_after_other(calls: Sequence[AfterUpdate]) -> AfterUpdate:
    """All of `calls` after each update; training ends if one says so."""

    def all_of_them(bert: Bert, log: TrainingLog) -> bool:
        said = [call(bert, log) for call in calls]  # every one is called, whatever the others say
        return any(said)

    return all_of_them
