"""Which examples share a batch: packed to a budget of tokens, neighbours of like length, in an order that repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

POOL = 64
"""Batches whose examples are sorted by length together: enough for long runs of equal length, few enough for chance."""


def by_length(lengths: Sequence[int] | np.ndarray, budget: int) -> list[np.ndarray]:
    """Cut examples, sorted by length, into batches of at most `budget` tokens (one example may be longer alone).

    `lengths` (examples,) → arrays of indices, shortest first.
    """
    lengths = np.asarray(lengths)
    return divided(np.argsort(lengths, kind="stable"), lengths, budget)


def divided(order: np.ndarray, lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Cut examples in this `order` into batches of at most `budget` tokens (one example may be longer alone)."""
    batches, start, used = [], 0, 0
    for end, length in enumerate(lengths[order].tolist()):
        if used and used + length > budget:
            batches.append(order[start:end])
            start, used = end, 0
        used += length
    if len(order):
        batches.append(order[start:])
    return batches


def shuffled(lengths: Sequence[int] | np.ndarray, budget: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """One epoch of batches: every example once, in random batches of like length, in random order.

    A pure function of its arguments. `lengths` (examples,) → arrays of indices.
    """
    lengths = np.asarray(lengths)
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    ends = np.cumsum(lengths[order])
    pool_of = ends // (budget * POOL)
    batches = [
        pool[batch]
        for pool in np.split(order, np.flatnonzero(np.diff(pool_of)) + 1)
        for batch in by_length(lengths[pool], budget)
    ]
    return [batches[i] for i in random.permutation(len(batches))]


def mixed(lengths: Sequence[int] | np.ndarray, budget: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """One epoch as of `shuffled`, but each batch has examples of every length: for batches so large that parts of them
    can be sorted."""
    lengths = np.asarray(lengths)
    return divided(np.random.default_rng([seed, epoch]).permutation(len(lengths)), lengths, budget)
