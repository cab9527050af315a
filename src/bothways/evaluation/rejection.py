"""None of these: the output layer that tells which texts are of none of the classes (`model.outputs.Mahalanobis`)."""

from __future__ import annotations

import math

import numpy as np
import torch

from bothways.batch import UNLABELLED
from bothways.inference.engine import Engine
from bothways.model.bert import Bert
from bothways.model.config import OutputConfig
from bothways.model.outputs import Mahalanobis
from bothways.tables.joining import as_read
from bothways.tables.table import Table
from bothways.tasks import Task

KEPT = 0.95
"""The share of texts of the known classes that counts as known."""
MOST_ROWS = 20_000
"""Training rows that class means and the covariance are estimated from."""


def fit_detector(bert: Bert, engine: Engine, task: Task, train: Table, *, seed: int = 0) -> Mahalanobis:
    """Put on a layer that tells how far a text is from the nearest class of `task`, as the training rows show it."""
    targets = np.array(train.targets(task))
    chosen = rows_of_each_class(targets, MOST_ROWS, seed)
    rows, classes = train.take(chosen), targets[chosen]
    found = engine.represent(engine.encode(as_read(rows.texts, engine.pretokenized), rows.pairs), task.output.reads)
    return detector_of(bert, task, found, classes)


def detector_of(bert: Bert, task: Task, found: np.ndarray, classes: np.ndarray) -> Mahalanobis:
    """`fit_detector` for texts of which is known what `task` reads, (rows, hidden), and their classes, (rows,).

    The covariance is that of rows around the mean of their class, shrunk after Ledoit and Wolf (A well-conditioned
    estimator for large-dimensional covariance matrices, 2004), since there may be fewer rows than dimensions.
    """
    from sklearn.covariance import LedoitWolf  # takes a second to import

    found = found.astype(np.float64)
    counts = np.bincount(classes, minlength=len(task.output.labels))
    means = np.zeros((len(counts), found.shape[1]))
    np.add.at(means, classes, found)
    means /= np.maximum(counts, 1)[:, None]
    covariance = LedoitWolf(assume_centered=True).fit(found - means[classes]).covariance_
    whitening = whitened_by(covariance)
    layer = bert.add(
        OutputConfig(
            name=f"{task.name}.known",
            kind="mahalanobis",
            labels=task.output.labels,
            reads=task.output.reads,
            of=task.name,
        )
    )
    assert isinstance(layer, Mahalanobis)
    whitened = np.where(counts[:, None] > 0, means @ whitening, np.finfo(np.float32).max ** 0.25)  # no row: far away
    with torch.no_grad():
        layer.whitening.copy_(torch.from_numpy(whitening.T))
        layer.means.copy_(torch.from_numpy(whitened))
    return layer


def whitened_by(covariance: np.ndarray) -> np.ndarray:
    """(hidden, hidden) → (hidden, hidden): x times this has a covariance of 1. Directions in which nothing varies, as
    where all texts are the same, count as varying a little."""
    variances, directions = np.linalg.eigh(covariance)
    return directions / np.sqrt(np.maximum(variances, max(1e-6 * variances[-1], 1e-10)))


def rows_of_each_class(targets: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Labelled rows, `most` at most but some of every class, in order: (n,) classes → indices."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(targets != UNLABELLED))
    if len(order) <= most:
        return np.sort(order)
    by_class = order[np.argsort(targets[order], kind="stable")]
    sizes = np.bincount(targets[by_class])
    rank = np.arange(len(by_class)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # of each row within its class
    return np.sort(by_class[np.argsort(rank, kind="stable")[:most]])


def threshold_of(distances: np.ndarray) -> float:
    """(n,) distances of held-out texts → the distance within which the share `KEPT` of new known texts will lie.

    That is the smallest of which `KEPT` of n + 1 are within, since the next text may lie between any two of them (split
    conformal prediction, arXiv 2107.07511, section 1). The plain quantile of few texts keeps fewer: of 50, 93 % on
    average. Of fewer than 19 the farthest counts.
    """
    within = min(len(distances), math.ceil(KEPT * (len(distances) + 1)))
    return float(np.sort(distances)[within - 1])
