"""Probabilities for each row from a model that has not seen it: cross-validation of linear models."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from bothways.errors import InputError
from bothways.labelling.features import Features
from bothways.tasks import Task
from bothways.tasks.task import Target


def folds_of(keys: np.ndarray, names: Sequence[str], folds: int, seed: int = 0) -> np.ndarray:
    """Which fold each row belongs to: rows of the same text (`keys`, `tables.duplicates`) share one, since a model
    that has seen the one knows the other; each label (`names`) is spread evenly.

    → (rows,) int64. Raises InputError if there are fewer different texts than folds.
    """
    if folds < 2:
        raise InputError(f"--folds {folds} leaves nothing to learn from; ask for 2 or more, 5 as a rule.")
    _, first, text = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) < folds:
        raise InputError(f"--folds {folds} is too much for {len(first)} different texts; ask for less or add rows.")
    chance = np.random.default_rng(seed).random(len(first))
    label = np.unique(np.array(names, object)[first].astype(str), return_inverse=True)[1]
    place = np.empty(len(first), np.int64)
    place[np.lexsort((chance, label))] = np.arange(len(first))
    return (place % folds)[text]


def out_of_fold(features: Sequence[Features], task: Task, targets: Sequence[Target], fold: np.ndarray) -> np.ndarray:
    """Probabilities for each row by linear models trained on the rows of all other folds, the mean over several kinds
    of `features`.

    → (rows, labels) float32
    """
    given = np.array(targets)
    found = np.zeros((len(given), len(task.output.labels)), np.float32)
    for kind in features:
        for number in np.unique(fold):
            inside, outside = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            found[inside] += predicted(task, kind.take(outside), given[outside], kind.take(inside))
    return found / len(features)


def predicted(task: Task, features: Features, targets: np.ndarray, others: Features) -> np.ndarray:
    """Probabilities for `others` by a linear model trained on `features` and their targets.

    → (others, labels); 0 for a label that no target has
    """
    width = len(task.output.labels)
    seen = np.unique(targets) if targets.ndim == 1 else np.arange(width)
    found = np.zeros((len(others), width), np.float32)
    if len(seen) == 1:
        found[:, seen] = 1.0
        return found
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Label .* is present in all|lbfgs failed|.*did not converge")
        model = task.linear_model(features.C).fit(features.vectors, targets)
        found[:, seen] = model.predict_proba(others.vectors)
    return found
