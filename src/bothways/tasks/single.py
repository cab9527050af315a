"""`single`: one class of several for each text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.batch import UNLABELLED, Predictions
from bothways.model.config import OutputConfig
from bothways.tasks.cells import SEPARATOR, as_text, refuse_written_list
from bothways.tasks.evidence import log_odds
from bothways.tasks.scores import ranked, ranked_columns, rounded, scores_of
from bothways.tasks.statistics import (
    Statistics,
    Sums,
    by_class,
    confidence_statistics,
    divided,
    f1_scores,
    one_hot,
    reliability,
    weighted_mean,
)
from bothways.tasks.task import Task, closeness, softmax
from bothways.tasks.temperature import softmax_temperature
from bothways.tokenizer import Encoding, Text


class SingleLabel(Task):
    """A cell is a label; a target its index; a decision the likeliest index."""

    kind = "single"
    exclusive = True
    weighs_classes = True
    chosen_by = ("macro_f1",)
    shares_of_rows = ("accuracy",)

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

    def label_counts(self, targets: Sequence[int]) -> np.ndarray:
        given = [target for target in targets if target != UNLABELLED]
        return np.bincount(np.array(given, np.int64), minlength=len(self.output.labels))

    def tensor(self, targets: Sequence[int], encodings: Sequence[Encoding]) -> Tensor:
        """→ (texts,) int64."""
        return torch.from_numpy(np.array(targets, np.int64))

    def probabilities(self, predictions: Predictions) -> np.ndarray:
        """→ (texts, classes), 1 in all for each text."""
        return softmax(predictions.logits[self.name], self.output.temperature)

    def decide(self, probabilities: np.ndarray) -> np.int64:
        return probabilities.argmax(-1)

    def calibrated(self, predictions: Predictions, targets: Sequence[int]) -> OutputConfig:
        true = np.array(targets)
        told = true != UNLABELLED
        return replace(self.output, temperature=softmax_temperature(predictions.logits[self.name][told], true[told]))

    def with_sets(self, predictions: Predictions, targets: Sequence[int], coverage: float) -> OutputConfig:
        """The output layer with prediction sets that hold the right class of at least `coverage` of all texts like
        these, which training has not seen: each class at least as likely as the right one of that share was (least
        ambiguous sets, arXiv 1609.00451; split conformal prediction)."""
        true = np.array(targets)
        told = np.flatnonzero(true != UNLABELLED)
        ascending = np.sort(self.probabilities(predictions)[told, true[told]])
        left_out = len(told) - math.ceil((len(told) + 1) * coverage)  # may be below the threshold; -1: too few rows
        return replace(self.output, set_threshold=float(ascending[left_out]) if left_out >= 0 else 0.0)

    def answer(self, probabilities: np.ndarray, text: Text, top: int | None = None) -> dict[str, Any]:
        """`{"label", "score", "scores": {label: p}}`, and "set" with the labels of the prediction set, if there are
        such sets."""
        scores = scores_of(self.output.labels, probabilities, top)
        best = int(self.decide(probabilities))
        answer = {"label": self.output.labels[best], "score": rounded(probabilities[best]), "scores": scores}
        if self.output.set_threshold is None:
            return answer
        inside = probabilities >= self.output.set_threshold
        return answer | {"set": [label for label, held in zip(self.output.labels, inside, strict=True) if held]}

    def columns(self, top: int | None = None) -> dict[str, type]:
        """label and score; with `top` those after the likeliest, too: label_2, score_2, …; set: the labels of the
        prediction set, `|` between."""
        columns = {"label": str, "score": float, **ranked_columns(self.output.labels, top, start=2)}
        return columns if self.output.set_threshold is None else columns | {"set": str}

    def cells(self, answer: dict[str, Any], top: int | None = None) -> dict[str, Any]:
        cells = {"label": answer["label"], "score": answer["score"], **ranked(answer["scores"], top, start=2)}
        return cells | {"set": SEPARATOR.join(answer["set"])} if "set" in answer else cells

    @classmethod
    def written(cls, value: str) -> str:
        return value

    def decided(self, decision: np.int64) -> str:
        return self.output.labels[decision]

    def evidence(self, logits: Tensor, label: int) -> Tensor:
        return log_odds(logits.float() / self.output.temperature, label)

    def explained(self, probabilities: np.ndarray) -> list[int]:
        """The likeliest."""
        return [int(probabilities.argmax())]

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

    def collapsed(self, expected: Sequence[int], predicted: Sequence[np.int64]) -> bool:
        """One class for all, unless it is right for nine in ten: rare classes may be hard to learn."""
        pairs = [(e, p) for e, p in zip(expected, predicted, strict=True) if self.labelled(e)]
        right = sum(bool(e == p) for e, p in pairs)
        return len({int(p) for _, p in pairs}) == 1 and right < 0.9 * len(pairs)

    def statistics(self, expected: list[int], probabilities: Sequence[np.ndarray]) -> Statistics:
        classes, found = len(self.output.labels), np.asarray(probabilities)
        true, predicted = np.array(expected), found.argmax(-1)
        right = true == predicted
        return {
            "right": right,
            "log_loss": -np.log(np.maximum(found[np.arange(len(true)), true], np.finfo(np.float32).tiny)),
            "expected": one_hot(true, classes),
            "predicted": one_hot(predicted, classes),
            "true_positives": one_hot(true, classes, right),
            **confidence_statistics(found.max(-1), right),
        }

    def metrics(self, sums: Sums) -> dict[str, float]:
        """F1 is averaged over the classes that occur; Matthews' correlation is that of several classes (Gorodkin,
        Comparing two K-category assignments by a K-category correlation coefficient, 2004)."""
        true, predicted = sums["expected"], sums["predicted"]
        rows, right, f1 = true.sum(), sums["right"], f1_scores(sums)
        spread = np.sqrt((rows**2 - (true**2).sum()) * (rows**2 - (predicted**2).sum()))
        return {
            "accuracy": divided(right, rows),
            "macro_f1": weighted_mean(f1, true > 0),
            "weighted_f1": weighted_mean(f1, true),
            "matthews_correlation": divided(right * rows - true @ predicted, spread),
            "log_loss": divided(sums["log_loss"], rows),
        }

    def details(self, sums: Sums) -> dict[str, Any]:
        return {**reliability(sums), "classes": by_class(sums, self.output.labels)}
