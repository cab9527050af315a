"""Random numbers that belong to a place: a pure function of (seed, place, draw), for many places at once.

A generator with a state would have to be restored to take a run up again, and one generator for each example costs
more than the example. Here the place is hashed: the finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable
pseudorandom number generators, OOPSLA 2014, figure 17), once for each part of the place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(values: np.ndarray) -> np.ndarray:
    """(…) uint64 → (…) uint64: every bit of the result hangs on every bit of the value."""
    with np.errstate(over="ignore"):
        values = values + GOLDEN
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def uniform(seed: int, *place: np.ndarray, draws: int, stream: int = 0) -> np.ndarray:
    """Numbers in [0, 1) for places, `draws` of them each. `place`: (n,) whole numbers, one array for each coordinate.

    `stream` keeps apart what is drawn for different purposes at the same place. → (draws, n) float64
    """
    state = mixed(np.array([seed, stream]).astype(np.uint64))
    state = mixed(state[0] ^ mixed(state[1:]))
    for coordinate in place:
        state = mixed(state ^ mixed(coordinate.astype(np.uint64)))
    numbers = mixed(state[None, :] ^ mixed(np.arange(draws).astype(np.uint64))[:, None])
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53


@contextmanager
def keeping_torch_state(device: torch.device | None = None) -> Iterator[None]:
    """Inside, PyTorch may be seeded anew; afterwards its random state, here and on `device`, is what it was."""
    import torch  # takes seconds, and processes that build a corpus do without it

    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
