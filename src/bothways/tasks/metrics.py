"""Metrics over any number of rows, in memory that does not grow with them.

Every metric is a function of sums over rows: how many are right, how many have each class, how many are given each. So
a row becomes a few statistics, and only their sums are kept:

    targets, probabilities → statistics of each row → sums → metrics

Sums over rows that are weighed by chance give the intervals (`Metrics`), but those of shares of rows, which few rows
that are all right would leave without a spread (`wilson_interval`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from bothways.tasks.task import Target, Task

Statistics = Mapping[str, "np.ndarray | csr_array"]
"""By name: (rows,), or (rows, width), sparse where most of it is 0."""
Sums = Mapping[str, np.ndarray]
"""By name: the sum over all rows, () or (width,)."""

NORMAL_975 = 1.959964
"""A normal variable is within so many standard deviations in 95 % of cases."""
REPLICATES = 200
"""How often rows are drawn anew for an interval."""
SAMPLE = 100_000
"""Most rows that are kept whole, for what is no function of sums."""
BINS = 15
"""Of the confidence, for calibration; arXiv 1706.04599 has as many."""


class Metrics:
    """The metrics of one output over all rows that say something of it, with 95 % intervals by the Poisson bootstrap:
    each replicate counts each row as often as a Poisson variable of mean 1 says (Chamandy and others, Estimating
    Uncertainty for Massive Data Streams, 2012). Drawing rows again needs all of them; these counts need none."""

    def __init__(self, task: Task, seed: int = 0) -> None:
        self.task = task
        self.examples = 0
        self.sums: dict[str, np.ndarray] = {}
        self.replicates: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(seed)
        self.sample: np.ndarray | None = None
        self.places = np.empty(0)

    def add(self, expected: Sequence[Target], probabilities: Sequence[np.ndarray] | np.ndarray) -> None:
        """Count some rows: their targets, and what the model says of each."""
        told = [i for i, target in enumerate(expected) if self.task.labelled(target)]
        if not told:
            return
        targets, found = [expected[i] for i in told], [probabilities[i] for i in told]
        self.examples += len(told)
        counts = self.random.poisson(1.0, (REPLICATES, len(told))).astype(np.float32)
        for name, statistic in self.task.statistics(targets, found).items():
            self.sums[name] = self.sums.get(name, 0.0) + np.asarray(statistic.sum(0), np.float64)
            self.replicates[name] = self.replicates.get(name, 0.0) + (counts @ statistic).astype(np.float64)
        self._keep(self.task.pairs(targets, found))

    def _keep(self, pairs: np.ndarray | None) -> None:
        """Keep a random `SAMPLE` of all pairs so far: those with the smallest of as many random numbers."""
        if pairs is None:
            return
        places = np.concatenate((self.places, self.random.random(len(pairs))))
        pairs = pairs if self.sample is None else np.concatenate((self.sample, pairs))
        kept = np.argsort(places)[:SAMPLE]
        self.places, self.sample = places[kept], pairs[kept]

    def result(self) -> dict[str, Any]:
        """`{"examples": n, metrics, "intervals": {metric: [low, high]}, …}`, numbers as Python has them. A metric that
        is the same in all replicates has no interval: so few rows do not tell how sure it is."""
        if not self.examples:
            return {"examples": 0}
        measured = self.task.metrics(self.sums)
        drawn = [
            self.task.metrics({name: sums[replicate] for name, sums in self.replicates.items()})
            for replicate in range(REPLICATES)
        ]
        intervals = {
            name: [float(edge) for edge in np.nanquantile([metrics[name] for metrics in drawn], (0.025, 0.975))]
            for name in measured
        }
        intervals = {name: edges for name, edges in intervals.items() if edges[0] < edges[1]}
        for name in self.task.shares_of_rows:
            intervals[name] = list(wilson_interval(measured[name] * self.examples, self.examples))
        paired = {} if self.sample is None else self.task.metrics_of_pairs(self.sample)
        return {
            "examples": self.examples,
            **{name: float(value) for name, value in {**measured, **paired}.items()},
            **self.task.details(self.sums),
            "intervals": intervals,
        }


def wilson_interval(right: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share of rows (Wilson, Probable Inference, 1927): of 12 that are all right 0.76 to 1."""
    share, z2 = right / rows, NORMAL_975**2
    middle, half = share + z2 / (2 * rows), NORMAL_975 * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2))
    return max(0.0, (middle - half) / (1 + z2 / rows)), min(1.0, (middle + half) / (1 + z2 / rows))


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
    """What a reliability diagram is drawn from: (rows,) how sure the model is, and whether it is right."""
    which = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return {
        "bin_examples": one_hot(which, BINS),
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
