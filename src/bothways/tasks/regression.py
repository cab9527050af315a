"""`regression`: a number for each text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.batch import Predictions
from bothways.errors import InputError
from bothways.model.config import OutputConfig
from bothways.model.outputs import OutputLayer
from bothways.tasks.scores import rounded
from bothways.tasks.statistics import Statistics, Sums, divided
from bothways.tasks.task import Task
from bothways.tokenizer import Encoding, Text

LARGEST = 1e30
"""What may be asked for; single precision ends at 3.4e38, its squares at 1.8e19."""


class Regression(Task):
    """A cell, a target and a decision are numbers."""

    kind = "regression"
    unit = "value"
    chosen_by = ("pearson",)
    names_labels = False

    @classmethod
    def value(cls, cell: Any, *, text: Text, column: str, place: str) -> float:
        try:
            number = float(cell)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= LARGEST:
            raise InputError(
                f"{place}: {cell!r} in column {column!r} is not a number; correct it, or leave the cell empty."
            )
        return number

    @classmethod
    def labels_in(cls, value: float) -> Iterable[str]:
        """One for all numbers: some number must be trained on, whichever."""
        return ("a number",)

    @classmethod
    def learn(cls, name: str, column: str, values: Sequence[float | None], source: str) -> OutputConfig:
        """Raises InputError if there is no number at all."""
        if all(value is None for value in values):
            raise InputError(f"{source}: column {column!r} holds no number.")
        return OutputConfig(name=name, kind="regression", column=column)

    def target(self, value: float | None, ids: dict[str, int]) -> float:
        return math.nan if value is None else value

    def labelled(self, target: float) -> bool:
        return not math.isnan(target)

    def tensor(self, targets: Sequence[float], encodings: Sequence[Encoding]) -> Tensor:
        """→ (texts,) float32."""
        return torch.from_numpy(np.array(targets, np.float32))

    def standardize(self, targets: Sequence[float]) -> tuple[Sequence[float], Callable[[OutputLayer], None]]:
        """Targets with mean 0 and standard deviation 1, NaN left out.

        A network learns such numbers; the bias of an output layer would take thousands of updates to reach a mean of
        100. The trained layer gives them as they were by its weights alone.
        """
        mean, deviation = float(np.nanmean(targets)), float(np.nanstd(targets)) or 1.0

        @torch.no_grad()
        def restore(layer: OutputLayer) -> None:
            layer.projection.weight *= deviation
            layer.projection.bias.mul_(deviation).add_(mean)

        return [(target - mean) / deviation for target in targets], restore

    def probabilities(self, predictions: Predictions) -> np.ndarray:
        """A number is shown as it is: → (texts, 1)."""
        return predictions.logits[self.name]

    def decide(self, probabilities: np.ndarray) -> np.float32:
        return probabilities[0]

    def answer(self, probabilities: np.ndarray, text: Text, top: int | None = None) -> dict[str, Any]:
        """`{"value"}`"""
        return {"value": rounded(probabilities[0])}

    def columns(self, top: int | None = None) -> dict[str, type]:
        return {"value": float}

    def cells(self, answer: dict[str, Any], top: int | None = None) -> dict[str, Any]:
        return answer

    @classmethod
    def written(cls, value: float) -> str:
        return f"{value:g}"

    def decided(self, decision: Any) -> float:
        return float(decision)

    def evidence(self, logits: Tensor, label: int) -> Tensor:
        """The number itself."""
        return logits[:, 0].float()

    def explained(self, probabilities: np.ndarray) -> list[int]:
        return [0]

    def statistics(self, expected: list[float], probabilities: Sequence[np.ndarray]) -> Statistics:
        true, found = self.pairs(expected, probabilities).T
        return {
            "rows": np.ones(len(true)),
            "absolute_error": np.abs(true - found),
            "squared_error": (true - found) ** 2,
            "moments": np.stack((true, found, true**2, found**2, true * found), axis=1),
        }

    def metrics(self, sums: Sums) -> dict[str, float]:
        """A correlation is 0 where one side never changes."""
        mean_true, mean_found, true2, found2, product = divided(sums["moments"], np.full(5, sums["rows"]))
        spread = np.sqrt(max(0.0, true2 - mean_true**2) * max(0.0, found2 - mean_found**2))
        return {
            "mean_absolute_error": divided(sums["absolute_error"], sums["rows"]),
            "mean_squared_error": divided(sums["squared_error"], sums["rows"]),
            "pearson": np.clip(divided(product - mean_true * mean_found, spread), -1, 1),
        }

    def pairs(self, expected: list[float], probabilities: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack((np.asarray(expected, np.float64), np.asarray(probabilities, np.float64)[:, 0]), axis=1)

    def metrics_of_pairs(self, pairs: np.ndarray) -> dict[str, float]:
        varies = (np.ptp(pairs, axis=0) > 0).all()
        return {"spearman": np.corrcoef(ranks(pairs[:, 0]), ranks(pairs[:, 1]))[0, 1] if varies else 0.0}


def ranks(values: np.ndarray) -> np.ndarray:
    """(n,) → (n,): the rank of each value; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
