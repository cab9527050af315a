"""Documents that were there before, the same or nearly: a corpus gains nothing from reading them twice.

Near duplicates are found by MinHash (Broder, On the resemblance and containment of documents, 1997) and banding
(Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4): two documents that have a share s of their runs
of five tokens in common meet in at least one of 16 bands of 8 rows with probability 1 − (1 − s⁸)¹⁶: 1 % at s = 0.4, 6 %
at 0.5, 61 % at 0.7, 95 % at 0.8.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from bothways.randomness import mixed

Duplicates = Literal["keep", "exact", "near"]
"""Which documents are dropped: none, those that are the same token for token, or also those nearly the same."""

RUN, BANDS, ROWS = 5, 16, 8
AT_ONCE = 256
"""Runs hashed at a time, so that they stay in the processor's cache."""
FACTORS = mixed(np.arange(BANDS * ROWS).astype(np.uint64)) | np.uint64(1)


def keys(tokens: np.ndarray, duplicates: Duplicates) -> np.ndarray:
    """What a document is known by: one number, or one for each band; sharing one means being duplicates.

    (tokens,) → (keys,) uint64
    """
    values = tokens.astype(np.uint64)
    with np.errstate(over="ignore"):
        whole = mixed(np.array([(mixed(values) * mixed(np.arange(len(values)).astype(np.uint64))).sum()]))
        if duplicates == "exact" or len(values) < RUN:
            return whole
        runs = np.zeros(len(values) - RUN + 1, np.uint64)
        for offset in range(RUN):
            runs = mixed(runs ^ values[offset : len(values) - RUN + 1 + offset])
        # The runs are hashed already, so that a product with an odd number orders them at random.
        parts = np.split(runs, range(AT_ONCE, len(runs), AT_ONCE))
        least = np.min([(FACTORS[:, None] * part).min(axis=1) for part in parts], axis=0).reshape(BANDS, ROWS)
        bands = np.arange(BANDS).astype(np.uint64)
        for row in range(ROWS):
            bands = mixed(bands ^ least[:, row])
    return bands


class Seen:
    """The keys of all documents so far: some 70 bytes each, one key a document for exact duplicates, 16 for near."""

    def __init__(self) -> None:
        self._keys: set[int] = set()

    def add(self, keys: np.ndarray) -> None:
        """Count documents with these keys as seen."""
        self._keys.update(keys.tolist())

    def before(self, document: np.ndarray) -> bool:
        """Whether a document with one of these keys was here before; it counts as seen from now on."""
        found = document.tolist()
        known = any(key in self._keys for key in found)
        self._keys.update(found)
        return known
