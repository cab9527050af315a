"""Random numbers that belong to a place: even, independent of their neighbours, the same for ever."""

from __future__ import annotations

import numpy as np

from bothways.randomness import uniform

PLACES = np.arange(100_000)


def test_even() -> None:
    numbers = uniform(3, PLACES, draws=4)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for row in numbers:
        counts, _ = np.histogram(row, bins=50, range=(0, 1))
        chi_squared = ((counts - 2000) ** 2 / 2000).sum()
        assert 20 < chi_squared < 95  # 49 degrees of freedom: four deviations to either side


def test_independent_of_neighbours() -> None:
    first = uniform(3, PLACES, draws=2)
    others = [
        first[1],
        uniform(4, PLACES, draws=1)[0],
        uniform(3, PLACES + 1, draws=1)[0],
        uniform(3, PLACES, draws=1, stream=1)[0],
        uniform(3, np.ones_like(PLACES), PLACES, draws=1)[0],
        uniform(3, PLACES, np.ones_like(PLACES), draws=1)[0],
    ]
    for other in others:
        assert abs(np.corrcoef(first[0], other)[0, 1]) < 4 / np.sqrt(len(PLACES))


def test_the_same_for_ever() -> None:
    """Stored runs are taken up with these numbers."""
    expected = [[0.28715905299982913, 0.6691912892798899], [0.11966245785872265, 0.7359942135910268]]
    np.testing.assert_array_equal(uniform(1, np.array([0, 1]), np.array([5, 5]), draws=2), expected)
    np.testing.assert_array_equal(uniform(1, PLACES, draws=3)[:2], uniform(1, PLACES, draws=2))
