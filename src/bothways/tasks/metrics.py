"""Metrics over any number of rows, in memory that does not grow with them.

Every metric is a function of sums over rows: how many are right, how many have each class, how many are given each. So
a row becomes a few statistics, and only their sums are kept:

    targets, probabilities → statistics of each row → sums → metrics

Sums over rows that are weighed by chance give the intervals (`Metrics`), but those of shares of rows, which few rows
that are all right would leave without a spread (`statistics.wilson_interval`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bothways.tasks.statistics import wilson_interval
from bothways.tasks.task import Target, Task

REPLICATES = 200
"""How often rows are drawn anew for an interval."""
SAMPLE = 100_000
"""Most rows that are kept whole, for what is no function of sums."""


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

    def add(
        self, expected: Sequence[Target], probabilities: Sequence[np.ndarray] | np.ndarray, task: Task | None = None
    ) -> None:
        """Count some rows: their targets, and what the model says of each. `task`: the one that decides about these
        rows, if it has other thresholds."""
        told = [i for i, target in enumerate(expected) if self.task.labelled(target)]
        if not told:
            return
        targets, found = [expected[i] for i in told], [probabilities[i] for i in told]
        self.examples += len(told)
        counts = self.random.poisson(1.0, (REPLICATES, len(told))).astype(np.float32)
        for name, statistic in (task or self.task).statistics(targets, found).items():
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
