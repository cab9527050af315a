"""What metrics are counted from: statistics of each row, whose sums over all rows are enough for every metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Statistics = Mapping[str, "np.ndarray | csr_array"]
"""By name: (rows,), or (rows, width), sparse where most of it is 0."""
Sums = Mapping[str, np.ndarray]
"""By name: the sum over all rows, () or (width,)."""

BINS = 15
"""Of the confidence, for calibration; arXiv 1706.04599 has as many."""
NORMAL_975 = 1.959964
"""A normal variable is within so many standard deviations in 95 % of cases."""


def one_hot(classes: np.ndarray, width: int, values: np.ndarray | None = None) -> csr_array:
    """(rows,) int → (rows, width), in each row `values` (1 unless given) at its class."""
    from scipy.sparse import csr_array

    rows = len(classes)
    values = np.ones(rows) if values is None else values
    return csr_array((values.astype(np.float32), classes, np.arange(rows + 1)), shape=(rows, width))


def divided(numerator: Any, denominator: Any) -> Any:
    """`numerator / denominator`, 0 where nothing is divided by nothing."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(denominator)), where=np.asarray(denominator) > 0)


def f1_scores(sums: Sums) -> np.ndarray:
    """(classes,): 2 · true positives / (expected + predicted), 0 for a class that never occurs."""
    return divided(2 * sums["true_positives"], sums["expected"] + sums["predicted"])


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """The mean of `values`, 0 where all weights are."""
    return float(divided((values * weights).sum(), weights.sum()))


def by_class(sums: Sums, labels: Sequence[str]) -> dict[str, dict[str, float | int]]:
    """Precision, recall, F1 and the number of examples of each class."""
    precision = divided(sums["true_positives"], sums["predicted"])
    recall = divided(sums["true_positives"], sums["expected"])
    f1 = f1_scores(sums)
    return {
        label: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "examples": int(sums["expected"][i]),
        }
        for i, label in enumerate(labels)
    }


def confidence_statistics(confidence: np.ndarray, right: np.ndarray) -> dict[str, csr_array]:
    """What a reliability diagram is drawn from: (rows,) how sure the model is, and whether it is right. A row of NaN is
    in no bin."""
    told = np.isfinite(confidence)
    confidence, right = np.where(told, confidence, 0.0), np.where(told, right, 0.0)
    which = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return {
        "bin_examples": one_hot(which, BINS, told.astype(float)),
        "bin_confidence": one_hot(which, BINS, confidence),
        "bin_right": one_hot(which, BINS, right),
    }


def reliability(sums: Sums) -> dict[str, Any]:
    """The expected calibration error (arXiv 1706.04599, equation 3), and the bins that it is counted from."""
    examples, confidence, right = (sums[f"bin_{name}"] for name in ("examples", "confidence", "right"))
    return {
        "expected_calibration_error": float(np.abs(confidence - right).sum() / max(1.0, examples.sum())),
        "bins": [
            {"confidence": float(c / n), "accuracy": float(r / n), "examples": int(n)}
            for n, c, r in zip(examples, confidence, right, strict=True)
            if n
        ],
    }


def wilson_interval(right: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share of rows (Wilson, Probable Inference, 1927): of 12 that are all right 0.76 to 1."""
    share, z2 = right / rows, NORMAL_975**2
    middle, half = share + z2 / (2 * rows), NORMAL_975 * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2))
    return max(0.0, (middle - half) / (1 + z2 / rows)), min(1.0, (middle + half) / (1 + z2 / rows))
