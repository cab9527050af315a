"""What to label next: the texts from which a model would learn most.

`uncertain_and_diverse` is the one to use; the others are what it is measured beside (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

POOL = 10
"""Of so many times as many texts as are asked for, the most uncertain, a choice as different as can be is made."""
MOST_IN_POOL = 20_000
Strategy = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]
"""(uncertainty (texts,), features (texts, hidden), count, seed) → (count,) the texts to label, first the best."""


def at_random(uncertainty: np.ndarray, features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Any texts: what a person does without a model."""
    return np.random.default_rng(seed).permutation(len(uncertainty))[:count]


def most_uncertain(uncertainty: np.ndarray, features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The texts that the model knows least about (Lewis and Gale, A sequential algorithm for training text classifiers,
    1994)."""
    return np.argsort(-uncertainty, kind="stable")[:count]


def diverse(uncertainty: np.ndarray, features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The text nearest to each of `count` centres of all (k-means), whatever the model knows."""
    return one_of_each(at_random(uncertainty, features, MOST_IN_POOL, seed), features, count, seed)


def uncertain_and_diverse(uncertainty: np.ndarray, features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The same among the most uncertain, so that no two texts ask the same question (Zhdanov, arXiv 1901.05954)."""
    pool = most_uncertain(uncertainty, features, min(POOL * count, MOST_IN_POOL), seed)
    return one_of_each(pool, features, count, seed)


def one_of_each(pool: np.ndarray, features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Of the texts in `pool` the nearest to each centre of `count` groups, in the order of `pool`."""
    from sklearn.cluster import MiniBatchKMeans

    if len(pool) <= count:
        return pool
    vectors = features[pool]
    means = MiniBatchKMeans(count, random_state=seed, n_init=1, batch_size=1024).fit(vectors)
    distances = means.transform(vectors)
    chosen: list[int] = []
    free = np.ones(len(pool), bool)
    for centre in range(count):  # two centres may have the same nearest text
        nearest = int(np.where(free, distances[:, centre], np.inf).argmin())
        free[nearest] = False
        chosen.append(nearest)
    return pool[np.sort(chosen)]
