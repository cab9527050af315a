"""A number: expected against predicted."""

from __future__ import annotations

from typing import Any

import numpy as np

from bothways.evaluation.observation import OutputObservation
from bothways.evaluation.page import Words
from bothways.evaluation.pictures import scatter
from bothways.evaluation.sections.parts import (
    SEVERE,
    Example,
    Excerpts,
    Section,
)
from bothways.tasks.regression import Regression

MOST_POINTS = 600
"""More dots hide each other."""


def of_regression(
    task: Regression, number: int, output: OutputObservation, metrics: dict[str, Any], texts: Excerpts
) -> Section:
    rows = output.labelled
    truth = np.array([output.expected[row] for row in rows], float)
    found = np.array([task.decide(output.probabilities[row]) for row in rows], float)
    error = np.abs(truth - found)
    index = {int(rows[at]): int(at) for at in np.argsort(-error, kind="stable")}

    def example(row: int, place: Words, text: str) -> Example:
        at = index[row]
        return Example(place, text, f"{truth[at]:.4g}", f"{found[at]:.4g}", f"{error[at]:.3g}")

    mistakes = texts.take(SEVERE, index, example)
    drawn = np.unique(np.linspace(0, len(rows) - 1, MOST_POINTS).astype(int))
    varies = np.ptp(truth) > 0 and np.ptp(found) > 0
    r = f"{metrics['pearson']:.3f}" if varies else "–"
    off, guess = f"{metrics['mean_absolute_error']:.3g}", f"{np.abs(truth - np.median(truth)).mean():.3g}"
    n = metrics["examples"]
    return Section(
        name=task.name,
        number=number,
        sentence=Words(
            f"Off by {off} on average on {n:,} texts; always answering {np.median(truth):.4g} would be off by "
            f"{guess}. Correlation (Pearson) {r}.",
            f"在 {n:,} 条文本上平均相差 {off}；若总是回答 {np.median(truth):.4g}，则相差 {guess}。皮尔逊相关系数 {r}。",
        ),
        charts=[
            scatter(
                [(truth[i], found[i]) for i in drawn],
                caption=Words("Expected and predicted", "期望值与预测值"),
                x_title=Words("expected", "期望值"),
                y_title=Words("predicted", "预测值"),
            )
        ],
        mistakes=mistakes,
    )
