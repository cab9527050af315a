"""Batches: every example once an epoch, within the budget, in an order that repeats."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bothways.batching import by_length, mixed, shuffled

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300)


@given(lengths=LENGTHS, budget=st.integers(10, 500), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_every_example_once_within_the_budget(lengths: list[int], budget: int, seed: int, epoch: int) -> None:
    order = {"seed": seed, "epoch": epoch}
    for batches in (
        by_length(lengths, budget),
        shuffled(lengths, budget, **order),
        mixed(lengths, budget, **order),
    ):
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        for batch in batches:
            assert sum(lengths[i] for i in batch) <= budget or len(batch) == 1


def test_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 500)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(shuffled(lengths, 256, seed=seed, epoch=epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_neighbours_are_alike() -> None:
    """Within a batch lengths are close, so that attention has few rectangles; batches come in random order."""
    lengths = np.random.default_rng(0).integers(3, 120, 5000)
    batches = shuffled(lengths, 2048, seed=0, epoch=0)
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 0.1 * np.ptp(lengths)
    means = np.array([lengths[batch].mean() for batch in batches])
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.2


def test_or_each_has_examples_of_every_length() -> None:
    lengths = np.random.default_rng(0).integers(3, 120, 5000)
    batches = mixed(lengths, 4096, seed=0, epoch=0)[:-1]
    assert np.concatenate(batches).tolist() != np.concatenate(mixed(lengths, 4096, seed=0, epoch=1)[:-1]).tolist()
    means = np.array([lengths[batch].mean() for batch in batches])
    assert np.abs(means - lengths.mean()).max() < 0.3 * lengths.mean()
    assert all(lengths[batch].sum() > 4096 - 120 for batch in batches)
