"""`multi`: any number of labels for each text, each by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.batch import Predictions
from bothways.model.config import OutputConfig
from bothways.tasks.cells import SEPARATOR, as_text, refuse_written_list
from bothways.tasks.scores import ranked, ranked_columns, scores_of
from bothways.tasks.statistics import (
    Statistics,
    Sums,
    by_class,
    confidence_statistics,
    divided,
    f1_scores,
    reliability,
    weighted_mean,
)
from bothways.tasks.task import Task, closeness
from bothways.tasks.temperature import sigmoid_temperature
from bothways.tokenizer import Encoding, Text

FEW = 5


class MultiLabel(Task):
    """A cell names labels, none or more; a target has a 1 for each; so has a decision, from a threshold on."""

    kind = "multi"
    chosen_by = ("micro_f1",)
    shares_of_rows = ("accuracy",)
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

    def label_counts(self, targets: Sequence[np.ndarray]) -> np.ndarray:
        return np.nan_to_num(np.array(targets, np.float32)).sum(0).astype(np.int64)

    def class_weights(self, targets: Sequence[np.ndarray], power: float) -> tuple[float, ...]:
        """A factor on the loss of each label where it is present: (rows without it / rows with it) ^ power."""
        present = self.label_counts(targets)
        absent = sum(self.labelled(target) for target in targets) - present
        return tuple(map(float, (np.maximum(absent, 1) / np.maximum(present, 1)) ** power))

    def tensor(self, targets: Sequence[np.ndarray], encodings: Sequence[Encoding]) -> Tensor:
        """→ (texts, labels) float32."""
        return torch.from_numpy(np.array(targets, np.float32))

    def probabilities(self, predictions: Predictions) -> np.ndarray:
        """→ (texts, labels), each by itself."""
        return torch.sigmoid(torch.from_numpy(predictions.logits[self.name]) / self.output.temperature).numpy()

    def calibrated(self, predictions: Predictions, targets: Sequence[np.ndarray]) -> OutputConfig:
        """With a threshold for each label, too: the probability from which on its F1 is best."""
        told = [i for i, target in enumerate(targets) if self.labelled(target)]
        true = np.array([targets[i] for i in told], np.float32)
        logits = predictions.logits[self.name][told]
        output = replace(self.output, temperature=sigmoid_temperature(logits, true))
        found = 1 / (1 + np.exp(-logits.astype(np.float64) / output.temperature))
        best = [best_threshold(found[:, label], true[:, label] > 0.5) for label in range(true.shape[1])]
        return replace(output, thresholds=tuple(best))

    @property
    def thresholds(self) -> np.ndarray:
        """(labels,) float32: from which probability each label counts as present."""
        return np.array(self.output.thresholds or [0.5] * len(self.output.labels), np.float32)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities >= self.thresholds

    def answer(self, probabilities: np.ndarray, text: Text, top: int | None = None) -> dict[str, Any]:
        """`{"labels": [those present], "scores": {label: p}}`"""
        return {
            "labels": self.decided(self.decide(probabilities)),
            "scores": scores_of(self.output.labels, probabilities, top),
        }

    def columns(self, top: int | None = None) -> dict[str, type]:
        """The labels present, `|` between; with `top` the likeliest with their scores: label_1, score_1, …"""
        return {"labels": str, **ranked_columns(self.output.labels, top)}

    def cells(self, answer: dict[str, Any], top: int | None = None) -> dict[str, Any]:
        return {"labels": self.written(answer["labels"]), **ranked(answer["scores"], top)}

    @classmethod
    def written(cls, value: list[str]) -> str:
        return SEPARATOR.join(value)

    def decided(self, decision: np.ndarray) -> list[str]:
        return [label for label, present in zip(self.output.labels, decision, strict=True) if present]

    def evidence(self, logits: Tensor, label: int) -> Tensor:
        return logits[:, label].float() / self.output.temperature

    def explained(self, probabilities: np.ndarray) -> list[int]:
        """Those present; if none is, the one that lacks least of its threshold."""
        present = np.flatnonzero(self.decide(probabilities)).tolist()
        return present or [int((probabilities - self.thresholds).argmax())]

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

    def agreement(self, target: np.ndarray, probabilities: np.ndarray) -> tuple[int, int]:
        """Of the labels that either names, twice those that both name (as F1 counts): most labels are absent from most
        texts, and agreeing about that would tell little."""
        given, decided = target > 0.5, self.decide(probabilities)
        return 2 * int((given & decided).sum()), int(given.sum() + decided.sum())

    def uncertainty(self, probabilities: np.ndarray) -> float:
        return float(closeness(np.stack([probabilities, 1 - probabilities], axis=-1)).mean())

    def statistics(self, expected: list[np.ndarray], probabilities: Sequence[np.ndarray]) -> Statistics:
        from scipy.sparse import csr_array

        true, found = np.array(expected) > 0.5, np.asarray(probabilities)
        predicted = self.decide(found)
        likelier = found >= 0.5  # calibration asks how often what is likelier is so, present or absent
        rows, labels = true.shape
        confidence = confidence_statistics(np.where(likelier, found, 1 - found).ravel(), (likelier == true).ravel())
        cells = csr_array((np.ones(true.size), np.arange(true.size), np.arange(0, true.size + 1, labels)))
        return {
            "rows": np.ones(rows),
            "right": (true == predicted).all(-1),
            "expected": csr_array(true, dtype=np.float32),
            "predicted": csr_array(predicted, dtype=np.float32),
            "true_positives": csr_array(true & predicted, dtype=np.float32),
            **{name: cells @ statistic for name, statistic in confidence.items()},  # a text's labels together
        }

    def metrics(self, sums: Sums) -> dict[str, float]:
        """Accuracy asks for all labels of a text to be right."""
        f1 = f1_scores(sums)
        all_labels = {name: sums[name].sum() for name in ("true_positives", "expected", "predicted")}
        return {
            "accuracy": divided(sums["right"], sums["rows"]),
            "macro_f1": f1.mean(),
            "micro_f1": f1_scores(all_labels),
            "weighted_f1": weighted_mean(f1, sums["expected"]),
        }

    def details(self, sums: Sums) -> dict[str, Any]:
        return {**reliability(sums), "classes": by_class(sums, self.output.labels)}


def best_threshold(probabilities: np.ndarray, present: np.ndarray) -> float:
    """(n,), (n,) bool: the threshold between 0.1 and 0.9 with the best F1; half of the way between two probabilities.

    0.5 for a label of fewer than `FEW` rows, which would tell more of these rows than of the label.
    """
    if present.sum() < FEW:
        return 0.5
    order = np.argsort(-probabilities)
    found = probabilities[order]
    right = np.cumsum(present[order])
    f1 = 2 * right / (np.arange(1, len(found) + 1) + present.sum())
    edges = (found + np.append(found[1:], 0.0)) / 2  # the first n are present from the n-th edge on
    allowed = (edges >= 0.1) & (edges <= 0.9) & (found > np.append(found[1:], -1.0))
    if not allowed.any():
        return 0.5
    return float(edges[np.argmax(np.where(allowed, f1, -1.0))])
