"""Which classes were taken for which, by an output that decides one class of several."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bothways.evaluation.observation import OutputObservation


@dataclass(frozen=True)
class Confusion:
    """What was expected and predicted of the n texts that have a label."""

    rows: np.ndarray
    """(n,) which of the observed rows each is"""
    expected: np.ndarray
    """(n,) classes"""
    probabilities: np.ndarray
    """(n, classes)"""

    @classmethod
    def of(cls, output: OutputObservation) -> Confusion:
        """That of what was observed of an output."""
        rows = output.labelled
        p = np.array([output.probabilities[row] for row in rows])
        return cls(rows, np.array([output.expected[row] for row in rows]), p)

    @cached_property
    def predicted(self) -> np.ndarray:
        """(n,) classes"""
        return self.probabilities.argmax(-1)

    @cached_property
    def sure(self) -> np.ndarray:
        """(n,) the probability of the class that was predicted"""
        return self.probabilities.max(-1)

    @property
    def right(self) -> np.ndarray:
        """(n,) bool"""
        return self.expected == self.predicted

    @cached_property
    def counts(self) -> np.ndarray:
        """The matrix: (classes expected, classes predicted) int64"""
        width = self.probabilities.shape[1]
        counts = np.zeros((width, width), np.int64)
        np.add.at(counts, (self.expected, self.predicted), 1)
        return counts

    @cached_property
    def cells(self) -> dict[tuple[int, int], np.ndarray]:
        """(expected, predicted) → which of the n texts are there, of a wrong cell the surest first, of a right one the
        least sure. Cells that are not empty: the wrong ones, then the right ones, of each those with most texts first.
        """
        width = self.probabilities.shape[1]
        order = np.argsort(np.where(self.right, self.sure, -self.sure), kind="stable")
        codes = (self.expected * width + self.predicted)[order]
        together = np.argsort(codes, kind="stable")
        found, starts = np.unique(codes[together], return_index=True)
        parts = np.split(order[together], starts[1:])
        cells = {divmod(int(code), width): part for code, part in zip(found, parts, strict=True)}
        return dict(sorted(cells.items(), key=lambda cell: (cell[0][0] == cell[0][1], -len(cell[1]), cell[0])))
