"""`single`: one class of several for each text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.batch import UNLABELLED, Predictions
from bothways.tasks.cells import as_text, refuse_written_list
from bothways.tasks.task import Task, closeness, rounded, softmax
from bothways.tokenizer import Encoding, Text


class SingleLabel(Task):
    """A cell is a label; a target its index; a decision the likeliest index."""

    kind = "single"

    @classmethod
    def value(cls, cell: Any, *, text: Text, column: str, place: str) -> str:
        refuse_written_list(cell, column, place, "give one label alone, or declare the output as multi")
        return as_text(cell, column, place)

    @classmethod
    def labels_in(cls, value: str) -> Iterable[str]:
        return (value,)

    def target(self, value: str | None, ids: dict[str, int]) -> int:
        return UNLABELLED if value is None else ids[value]

    def labelled(self, target: int) -> bool:
        return target != UNLABELLED

    def tensor(self, targets: Sequence[int], encodings: Sequence[Encoding]) -> Tensor:
        """→ (texts,) int64."""
        return torch.from_numpy(np.array(targets, np.int64))

    def probabilities(self, predictions: Predictions) -> np.ndarray:
        """→ (texts, classes), 1 in all for each text."""
        return softmax(predictions.logits[self.name], self.output.temperature)

    def decide(self, probabilities: np.ndarray) -> np.int64:
        return probabilities.argmax(-1)

    def answer(self, probabilities: np.ndarray, text: Text) -> dict[str, Any]:
        """`{"label", "score", "scores": {label: p}}`"""
        scores = {label: rounded(p) for label, p in zip(self.output.labels, probabilities, strict=True)}
        best = int(self.decide(probabilities))
        return {"label": self.output.labels[best], "score": rounded(probabilities[best]), "scores": scores}

    @classmethod
    def written(cls, value: str) -> str:
        return value

    def decided(self, decision: np.int64) -> str:
        return self.output.labels[decision]

    def linear_model(self, C: float) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=C, max_iter=1000)

    def label_errors(
        self, targets: Sequence[int], probabilities: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        labels, predicted = np.array(targets), np.array(probabilities)
        return get_label_quality_scores(labels, predicted), find_label_issues(labels, predicted, n_jobs=1)

    def uncertainty(self, probabilities: np.ndarray) -> float:
        return float(closeness(probabilities))

    def measure(self, expected: list[int], predicted: list[np.int64]) -> dict[str, Any]:
        from sklearn import metrics  # takes a second to import

        return {
            "accuracy": metrics.accuracy_score(expected, predicted),
            "macro_f1": metrics.f1_score(
                expected, predicted, average="macro", labels=np.unique(expected), zero_division=0.0
            ),
            "matthews_correlation": metrics.matthews_corrcoef(expected, predicted),
        }
