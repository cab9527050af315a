"""`multi`: any number of labels for each text, each by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.batch import Predictions
from bothways.tasks.cells import as_text, refuse_written_list
from bothways.tasks.task import Task, closeness, rounded
from bothways.tokenizer import Encoding, Text

SEPARATOR = "|"
"""Between the labels of a cell; JSON lines and Parquet may hold a list instead."""


class MultiLabel(Task):
    """A cell names labels, none or more; a target has a 1 for each; so has a decision, from a threshold on."""

    kind = "multi"
    least_labels = 1

    @classmethod
    def says_nothing(cls, cell: Any, *, optional: bool) -> bool:
        """An empty cell says that no label applies."""
        return cell is None

    @classmethod
    def value(cls, cell: Any, *, text: Text, column: str, place: str) -> list[str]:
        advice = f"write its labels with {SEPARATOR!r} between them, or use JSON lines or Parquet, which have lists"
        refuse_written_list(cell, column, place, advice)
        labels = cell if isinstance(cell, list) else as_text(cell, column, place).split(SEPARATOR)
        labels = [as_text(label, column, place).strip() for label in labels]
        return [label for label in labels if label]

    @classmethod
    def same(cls, one: list[str], other: list[str]) -> bool:
        return set(one) == set(other)

    def target(self, value: list[str] | None, ids: dict[str, int]) -> np.ndarray:
        present = np.full(len(ids), math.nan if value is None else 0.0, np.float32)
        present[[ids[label] for label in value or ()]] = 1.0
        return present

    def labelled(self, target: np.ndarray) -> bool:
        return not np.isnan(target).all()

    def tensor(self, targets: Sequence[np.ndarray], encodings: Sequence[Encoding]) -> Tensor:
        """→ (texts, labels) float32."""
        return torch.from_numpy(np.array(targets, np.float32))

    def probabilities(self, predictions: Predictions) -> np.ndarray:
        """→ (texts, labels), each by itself."""
        return torch.sigmoid(torch.from_numpy(predictions.logits[self.name]) / self.output.temperature).numpy()

    @property
    def thresholds(self) -> np.ndarray:
        """(labels,) float32: from which probability each label counts as present."""
        return np.array(self.output.thresholds or [0.5] * len(self.output.labels), np.float32)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities >= self.thresholds

    def answer(self, probabilities: np.ndarray, text: Text) -> dict[str, Any]:
        """`{"labels": [those present], "scores": {label: p}}`"""
        return {
            "labels": self.decided(self.decide(probabilities)),
            "scores": {label: rounded(p) for label, p in zip(self.output.labels, probabilities, strict=True)},
        }

    @classmethod
    def written(cls, value: list[str]) -> str:
        return SEPARATOR.join(value)

    def decided(self, decision: np.ndarray) -> list[str]:
        return [label for label, present in zip(self.output.labels, decision, strict=True) if present]

    def linear_model(self, C: float) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        return OneVsRestClassifier(LogisticRegression(C=C, max_iter=1000))

    def label_errors(
        self, targets: Sequence[np.ndarray], probabilities: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        from cleanlab.multilabel_classification import get_label_quality_scores
        from cleanlab.multilabel_classification.filter import find_label_issues

        labels, predicted = [list(np.flatnonzero(target)) for target in targets], np.array(probabilities)
        return get_label_quality_scores(labels, predicted), find_label_issues(labels, predicted, n_jobs=1)

    def uncertainty(self, probabilities: np.ndarray) -> float:
        return float(closeness(np.stack([probabilities, 1 - probabilities], axis=-1)).mean())

    def measure(self, expected: list[np.ndarray], predicted: list[np.ndarray]) -> dict[str, Any]:
        """Accuracy asks for all labels of a text to be right."""
        from sklearn import metrics

        truth, found = np.array(expected) > 0.5, np.array(predicted)
        averages = ("macro", "micro")
        if truth.shape[1] == 1:  # scikit-learn takes a lone column for two classes, present and absent
            alone = metrics.f1_score(truth.ravel(), found.ravel(), zero_division=0.0)
            f1 = dict.fromkeys(averages, alone)
        else:
            f1 = {average: metrics.f1_score(truth, found, average=average, zero_division=0.0) for average in averages}
        return {"accuracy": metrics.accuracy_score(truth, found), "macro_f1": f1["macro"], "micro_f1": f1["micro"]}
