"""How far a figure of some rows can be trusted: the bootstrap over test rows (Efron and Tibshirani 1993, chapter 13).

Rows that count alike are drawn together, by a multinomial over their numbers: the same distribution as drawing rows one
by one, in a time that does not grow with them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 2000
Interval = tuple[float, float]
Labels = Sequence | np.ndarray


def resampled(counts: np.ndarray, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """How many rows of each sort a draw of as many rows has. (sorts,) → (draws, sorts) int64"""
    return np.random.default_rng(seed).multinomial(int(counts.sum()), counts / counts.sum(), size=draws)


def interval_of(figures: np.ndarray) -> Interval:
    """What 95 % of the draws lie between: the percentile interval."""
    low, high = np.percentile(figures, (2.5, 97.5))
    return float(low), float(high)


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """95 % interval of the mean of one value a row. (rows,) → (low, high)"""
    sorts, counts = np.unique(values, return_counts=True)
    return interval_of(resampled(counts, seed) @ sorts / len(values))


def difference_interval(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Interval:
    """95 % interval of the difference of two means over the same rows: the paired bootstrap (Koehn 2004), with two more
    rows, on which one and the other alone is right, so that few rows do not tell too much (Bonett and Price 2012).

    `first`, `second`: (rows,) what each method earns on a row, 1 for a right answer.
    """
    return mean_interval(np.round(np.append(first - second, (1.0, -1.0)), 6), seed)


def confusion(expected: Labels, predicted: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cells of a confusion matrix that are not empty: (expected, predicted, count), each (cells,) int64."""
    _, ids = np.unique(np.concatenate([np.asarray(expected), np.asarray(predicted)]), return_inverse=True)
    pairs = np.stack([ids[: len(expected)], ids[len(expected) :]], -1)
    cells, counts = np.unique(pairs, axis=0, return_counts=True)
    return cells[:, 0], cells[:, 1], counts


def macro_f1(true: np.ndarray, said: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Macro F1 over the classes that are expected at all, of many confusion matrices at once.

    `true`, `said`: (cells,) the classes of each cell; `counts`: (draws, cells) → (draws,)
    """
    classes = int(max(true.max(), said.max())) + 1
    here = np.eye(classes, dtype=np.int64)
    there, found, right = counts @ here[true], counts @ here[said], counts[:, true == said] @ here[true[true == said]]
    f1 = 2 * right / np.maximum(1, there + found)
    return (f1 * (there > 0)).sum(-1) / np.maximum(1, (there > 0).sum(-1))


def macro_f1_interval(expected: Labels, predicted: Labels, seed: int = 0) -> Interval | None:
    """95 % interval of macro F1, None where all draws have the same. Both (rows,)."""
    true, said, counts = confusion(expected, predicted)
    low, high = interval_of(macro_f1(true, said, resampled(counts, seed)))
    return (low, high) if low < high else None
