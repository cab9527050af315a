"""Any number of labels: a table of them with their thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np

from bothways.evaluation.observation import OutputObservation
from bothways.evaluation.page import Words, excerpt, percent
from bothways.evaluation.sections.parts import (
    RATES,
    SEVERE,
    Example,
    Excerpts,
    Grid,
    Section,
    rates,
)
from bothways.tasks.multi import MultiLabel


def of_multi(
    task: MultiLabel, number: int, output: OutputObservation, metrics: dict[str, Any], texts: Excerpts
) -> Section:
    rows = output.labelled
    labels = [excerpt(label, 40) for label in task.output.labels]
    truth = np.array([output.expected[row] for row in rows]) > 0.5
    p = np.array([output.probabilities[row] for row in rows])
    found = np.array([task.decide(one) for one in p])
    surely_wrong = np.where(truth == found, -1.0, np.where(found, p, 1 - p)).max(-1)

    def example(row: int, place: Words, text: str) -> Example:
        at = index[row]
        expected, predicted = (", ".join(labels[i] for i in np.flatnonzero(side[at])) or "–" for side in (truth, found))
        return Example(place, text, expected, predicted, f"{surely_wrong[at]:.2f}")

    wrong = [int(at) for at in np.argsort(-surely_wrong, kind="stable") if surely_wrong[at] >= 0]
    index = {int(rows[at]): at for at in wrong}
    mistakes = texts.take(SEVERE, index, example)
    right, predicted, there = (truth & found).sum(0), found.sum(0), truth.sum(0)
    grid = Grid(
        Words("Each label", "各标签"),
        [Words("label", "标签"), Words("threshold", "阈值"), *RATES, Words("texts", "文本数")],
        [
            [
                labels[i],
                f"{task.thresholds[i]:.2f}",
                *rates(int(right[i]), int(predicted[i]), int(there[i])),
                f"{there[i]:,}",
            ]
            for i in np.argsort(-there, kind="stable")[: texts.lines]
        ],
        max(0, len(labels) - texts.lines),
    )
    whole, n, f1 = percent(metrics["accuracy"]), metrics["examples"], metrics["micro_f1"]
    return Section(
        name=task.name,
        number=number,
        sentence=Words(
            f"All labels are right for {whole} of {n:,} texts; F1 over all labels (micro) is {f1:.3f}.",
            f"{n:,} 条文本中有 {whole} 的全部标签都正确；所有标签的 F1（微平均）为 {f1:.3f}。",
        ),
        grids=[grid],
        mistakes=mistakes,
        mistakes_left_out=len(wrong) - len(mistakes),
    )
