"""Scores as they are shown: in an answer, and as cells of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def scores_of(labels: Sequence[str], probabilities: np.ndarray, top: int | None) -> dict[str, float]:
    """The probability of each label, in the order of labels; or of the `top` likeliest, the likeliest first."""
    order = range(len(labels)) if top is None else np.argsort(-probabilities, kind="stable")[:top].tolist()
    return {labels[i]: rounded(probabilities[i]) for i in order}


def ranked(scores: Mapping[str, Any], top: int | None, *, start: int = 1) -> dict[str, Any]:
    """`top` scores, the likeliest first, as cells label_1, score_1, label_2, … from place `start` on; none for None."""
    places = list(enumerate(scores.items(), 1))[start - 1 : top or 0]
    return {f"{what}_{i}": cell for i, pair in places for what, cell in zip(("label", "score"), pair, strict=True)}


def ranked_columns(labels: Sequence[str], top: int | None, *, start: int = 1) -> dict[str, type]:
    """The columns of these cells."""
    return {
        column: str if column.startswith("label") else float
        for column in ranked(dict.fromkeys(labels), top, start=start)
    }


def rounded(value: float) -> float:
    """Six digits: more than a score deserves, few enough to read."""
    return round(float(value), 6)
